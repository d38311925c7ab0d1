/* asks WAY SERVER NAME [PORT]: a resolver that sends its questions with sendmsg and sendmmsg; key=value lines.
 *
 *   sendmsg     one question in two parts, with control data
 *   pair        A and AAAA in one sendmmsg, each with its address
 *   connected   the same on a connected socket, as glibc does it
 *   mixed       question, a datagram for the loopback's PORT, question, in one sendmmsg
 *   holes       the second message's address lies nowhere; then the first one's; more parts than the kernel takes
 *   unix        a descriptor passed over a UNIX domain socket, and a datagram to one by its name
 *   fastopen    sendmsg and sendmmsg that would connect
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_in server;
static unsigned char questions[2][300];
static size_t sizes[2];

static int fresh(int type) {
  int fd = socket(AF_INET, type, 0);
  struct timeval patience = {10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

static void build(int at, const char* name, int type) {
  unsigned char* to = questions[at];
  const unsigned char head[12] = {0x42, (unsigned char)at, 1, 0, 0, 1};
  memcpy(to, head, sizeof head);
  size_t size = sizeof head;
  while (*name) {
    size_t label = strcspn(name, ".");
    to[size++] = (unsigned char)label;
    memcpy(to + size, name, label);
    size += label;
    name += label + (name[label] == '.');
  }
  const unsigned char tail[5] = {0, 0, (unsigned char)type, 0, 1};
  memcpy(to + size, tail, sizeof tail);
  sizes[at] = size + sizeof tail;
}

static void hear(int fd, int count) {
  char lines[2][200] = {"", ""};
  for (int i = 0; i < count; i++) {
    unsigned char reply[512];
    struct sockaddr_in from;
    socklen_t room = sizeof from;
    ssize_t size = recvfrom(fd, reply, sizeof reply, 0, (struct sockaddr*)&from, &room);
    if (size < 12) {
      printf("no reply: %s\n", strerror(errno));
      return;
    }
    char source[64], address[64] = "none";
    inet_ntop(AF_INET, &from.sin_addr, source, sizeof source);
    if (reply[7] != 0) inet_ntop(AF_INET, reply + size - 4, address, sizeof address);
    snprintf(lines[reply[1] & 1], sizeof lines[0], "answer%d=%s from=%s:%d\n", reply[1], address, source,
             ntohs(from.sin_port));
  }
  printf("%s%s", lines[0], lines[1]);
}

static void pair(struct mmsghdr* heads, struct iovec* parts, int addressed) {
  for (int i = 0; i < 2; i++) {
    parts[i] = (struct iovec){questions[i], sizes[i]};
    memset(&heads[i], 0, sizeof heads[i]);
    heads[i].msg_hdr.msg_iov = &parts[i];
    heads[i].msg_hdr.msg_iovlen = 1;
    if (addressed) heads[i].msg_hdr.msg_name = &server, heads[i].msg_hdr.msg_namelen = sizeof server;
  }
}

static void tell_sent(int count, const struct mmsghdr* heads, int most) {
  printf("sent=%d", count);
  if (count < 0) printf(" %s", strerror(errno));
  for (int i = 0; i < count && i < most; i++) printf(" %u", heads[i].msg_len);
  printf("\n");
}

static void by_sendmsg(void) {
  union {
    char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct cmsghdr aligned;
  } control;
  struct iovec parts[2] = {{questions[0], 12}, {questions[0] + 12, sizes[0] - 12}};
  struct msghdr head = {.msg_name = &server, .msg_namelen = sizeof server, .msg_iov = parts, .msg_iovlen = 2};
  head.msg_control = control.bytes;
  head.msg_controllen = sizeof control.bytes;
  memset(&control, 0, sizeof control);
  struct cmsghdr* each = CMSG_FIRSTHDR(&head);
  *each = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL};
  *(int*)CMSG_DATA(each) = 9;
  each = CMSG_NXTHDR(&head, each);
  /* Out of the first interface that is not the loopback, as a resolver with one server for each of them says. */
  const struct in_pktinfo information = {.ipi_ifindex = 2};
  *each = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof information), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
  memcpy(CMSG_DATA(each), &information, sizeof information);
  int fd = fresh(SOCK_DGRAM);
  printf("sent=%zd\n", sendmsg(fd, &head, 0));
  hear(fd, 1);
}

static void by_sendmmsg(int connected) {
  struct mmsghdr heads[2];
  struct iovec parts[2];
  int fd = fresh(SOCK_DGRAM);
  if (connected && connect(fd, (struct sockaddr*)&server, sizeof server) != 0) perror("connect");
  pair(heads, parts, !connected);
  tell_sent(sendmmsg(fd, heads, 2, MSG_NOSIGNAL), heads, 2);
  hear(fd, 2);
}

static void mixed(int port) {
  struct mmsghdr heads[3];
  struct iovec parts[3];
  struct sockaddr_in near = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  near.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  pair(heads, parts, 1);
  heads[2] = heads[1];
  parts[2] = (struct iovec){"plain", 5};
  heads[1].msg_hdr.msg_iov = &parts[2];
  heads[1].msg_hdr.msg_name = &near;
  int fd = fresh(SOCK_DGRAM), done = 0;
  /* A partial count is a right answer; the rest is asked for again. */
  while (done < 3) {
    int count = sendmmsg(fd, heads + done, (unsigned)(3 - done), 0);
    if (count <= 0) {
      perror("sendmmsg");
      return;
    }
    done += count;
  }
  tell_sent(done, heads, 3);
  hear(fd, 2);
}

static void holes(void) {
  struct mmsghdr heads[2];
  struct iovec parts[2];
  static struct iovec many[1100];
  pair(heads, parts, 1);
  int fd = fresh(SOCK_DGRAM);
  heads[1].msg_hdr.msg_name = (void*)16;
  tell_sent(sendmmsg(fd, heads, 2, 0), heads, 2);
  hear(fd, 1);
  tell_sent(sendmmsg(fd, heads + 1, 1, 0), heads, 0);
  printf("sendmsg=%zd %s\n", sendmsg(fd, &heads[1].msg_hdr, 0), strerror(errno));
  heads[0].msg_hdr.msg_iov = many;
  heads[0].msg_hdr.msg_iovlen = 1100;
  printf("parts=%zd", sendmsg(fd, &heads[0].msg_hdr, 0));
  printf(" %s\n", strerror(errno));
}

static void over_unix(void) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } control;
  int ends[2], pipes[2];
  char byte = 'x';
  struct iovec part = {&byte, 1};
  struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
  head.msg_control = control.bytes;
  head.msg_controllen = sizeof control.bytes;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || pipe(pipes) != 0) return;
  memset(&control, 0, sizeof control);
  struct cmsghdr* rights = CMSG_FIRSTHDR(&head);
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  memcpy(CMSG_DATA(rights), &pipes[1], sizeof(int));
  printf("passed=%zd\n", sendmsg(ends[0], &head, 0));
  memset(&control, 0, sizeof control);
  printf("received=%zd", recvmsg(ends[1], &head, 0));
  int got;
  memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&head)), sizeof got);
  printf(" written=%zd\n", write(got, "y", 1));

  struct sockaddr_un place = {.sun_family = AF_UNIX};
  memcpy(place.sun_path + 1, "asks.c", 6);
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + 7;
  int reader = socket(AF_UNIX, SOCK_DGRAM, 0), writer = socket(AF_UNIX, SOCK_DGRAM, 0);
  bind(reader, (struct sockaddr*)&place, size);
  struct mmsghdr many[2];
  for (int i = 0; i < 2; i++)
    many[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &place, .msg_namelen = size, .msg_iov = &part, .msg_iovlen = 1}};
  tell_sent(sendmmsg(writer, many, 2, 0), many, 2);
}

static void fast_open(void) {
  struct iovec part = {"x", 1};
  struct mmsghdr head = {
      .msg_hdr = {.msg_name = &server, .msg_namelen = sizeof server, .msg_iov = &part, .msg_iovlen = 1}};
  int fd = fresh(SOCK_STREAM);
  printf("sendmsg=%zd", sendmsg(fd, &head.msg_hdr, MSG_FASTOPEN));
  printf(" %s\n", strerror(errno));
  printf("sendmmsg=%d", sendmmsg(fd, &head, 1, MSG_FASTOPEN));
  printf(" %s\n", strerror(errno));
}

int main(int count, char** words) {
  if (count < 4) return 2;
  server.sin_family = AF_INET;
  server.sin_port = htons(53);
  if (inet_pton(AF_INET, words[2], &server.sin_addr) != 1) return 2;
  build(0, words[3], 1);
  build(1, words[3], 28);
  const char* way = words[1];
  if (strcmp(way, "sendmsg") == 0) by_sendmsg();
  else if (strcmp(way, "pair") == 0) by_sendmmsg(0);
  else if (strcmp(way, "connected") == 0) by_sendmmsg(1);
  else if (strcmp(way, "mixed") == 0 && count > 4) mixed(atoi(words[4]));
  else if (strcmp(way, "holes") == 0) holes();
  else if (strcmp(way, "unix") == 0) over_unix();
  else if (strcmp(way, "fastopen") == 0) fast_open();
  else return 2;
  return 0;
}
