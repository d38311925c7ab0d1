/* Everything a libc says about names: one command per line of standard input, one line of answer for each.
 *
 *   gai NAME [service=S] [family=F] [type=T] [protocol=N] [flags=F,F]   getaddrinfo; NAME - is NULL
 *   gni ADDRESS PORT [host=SIZE] [service=SIZE] [flags=F,F]             getnameinfo
 *   hbn NAME [family=F] [room=SIZE]    gethostbyname, gethostbyname2, and with a room the _r forms
 *   hba ADDRESS [room=SIZE]            gethostbyaddr, gethostbyaddr_r
 *   loop COUNT NAME [flags=F,F]        as often getaddrinfo and freeaddrinfo; how much the heap grew, in kB
 *   tcp NAME PORT [family=F] [how=nonblocking]   connects, and reads a line
 *   udp NAME PORT how=connect|sendto|sendmsg     what became of a datagram
 *   again                              the last tcp once more, with the address that was found then
 *
 * Words are split at blanks; %XX stands for any byte. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct word {
  const char* name;
  int value;
};

static const struct word families[] = {
    {"unspec", AF_UNSPEC}, {"inet", AF_INET}, {"inet6", AF_INET6}, {"unix", AF_UNIX}, {0, 0}};
static const struct word types[] = {{"stream", SOCK_STREAM}, {"dgram", SOCK_DGRAM}, {"raw", SOCK_RAW}, {0, 0}};
static const struct word flags[] = {{"canonname", AI_CANONNAME},
                                    {"numerichost", AI_NUMERICHOST},
                                    {"passive", AI_PASSIVE},
                                    {"addrconfig", AI_ADDRCONFIG},
                                    {"v4mapped", AI_V4MAPPED},
                                    {"all", AI_ALL},
                                    {"numericserv", AI_NUMERICSERV},
                                    {"bad", 0x40000000},
                                    {0, 0}};
static const struct word name_flags[] = {{"namereqd", NI_NAMEREQD},
                                         {"numerichost", NI_NUMERICHOST},
                                         {"numericserv", NI_NUMERICSERV},
                                         {"dgram", NI_DGRAM},
                                         {0, 0}};
static const struct word results[] = {{"OK", 0},
                                      {"NONAME", EAI_NONAME},
                                      {"AGAIN", EAI_AGAIN},
                                      {"FAIL", EAI_FAIL},
                                      {"FAMILY", EAI_FAMILY},
                                      {"SERVICE", EAI_SERVICE},
                                      {"SOCKTYPE", EAI_SOCKTYPE},
                                      {"BADFLAGS", EAI_BADFLAGS},
                                      {"OVERFLOW", EAI_OVERFLOW},
                                      {"SYSTEM", EAI_SYSTEM},
                                      {"NODATA", -5},
                                      {"ADDRFAMILY", -9},
                                      {0, 0}};
static const struct word host_errors[] = {{"none", 0},
                                          {"HOST_NOT_FOUND", HOST_NOT_FOUND},
                                          {"TRY_AGAIN", TRY_AGAIN},
                                          {"NO_RECOVERY", NO_RECOVERY},
                                          {"NO_DATA", NO_DATA},
                                          {"NETDB_INTERNAL", -1},
                                          {0, 0}};
static const struct word errors[] = {{"OK", 0},
                                     {"ECONNREFUSED", ECONNREFUSED},
                                     {"EHOSTUNREACH", EHOSTUNREACH},
                                     {"ENETUNREACH", ENETUNREACH},
                                     {"ENETDOWN", ENETDOWN},
                                     {"ETIMEDOUT", ETIMEDOUT},
                                     {"EINPROGRESS", EINPROGRESS},
                                     {"ERANGE", ERANGE},
                                     {"EAGAIN", EAGAIN},
                                     {"EACCES", EACCES},
                                     {"EPERM", EPERM},
                                     {"ECONNRESET", ECONNRESET},
                                     {"ENOENT", ENOENT},
                                     {"EAFNOSUPPORT", EAFNOSUPPORT},
                                     {"EINVAL", EINVAL},
                                     {"EPROTO", EPROTO},
                                     {"ENOTCONN", ENOTCONN},
                                     {0, 0}};

static const char* text_of(const struct word* table, int value) {
  static char other[32];
  for (; table->name != NULL; ++table)
    if (table->value == value) return table->name;
  snprintf(other, sizeof other, "%d", value);
  return other;
}

static int value_of(const struct word* table, const char* name, size_t size) {
  for (; table->name != NULL; ++table)
    if (strlen(table->name) == size && memcmp(table->name, name, size) == 0) return table->value;
  fprintf(stderr, "names: unknown word %.*s\n", (int)size, name);
  exit(2);
}

/* The words of a command; behind the first ones come key=value. */
static char* words[16];

static void decode(char* word) {
  char* to = word;
  for (; *word != '\0'; ++word) {
    unsigned byte;
    if (word[0] == '%' && sscanf(word + 1, "%2x", &byte) == 1) {
      *to++ = (char)byte;
      word += 2;
    } else {
      *to++ = *word;
    }
  }
  *to = '\0';
}

static const char* given(const char* key) {
  const size_t size = strlen(key);
  for (int i = 1; words[i] != NULL; ++i)
    if (strncmp(words[i], key, size) == 0 && words[i][size] == '=') return words[i] + size + 1;
  return NULL;
}

static int given_word(const char* key, const struct word* table) {
  const char* text = given(key);
  int value = 0;
  while (text != NULL && *text != '\0') {
    const size_t size = strcspn(text, ",");
    value |= value_of(table, text, size);
    text += size + (text[size] == ',');
  }
  return value;
}

static void show_name(const char* name) {
  for (; *name != '\0'; ++name)
    printf(*name > ' ' && *name < 0x7f && *name != '%' ? "%c" : "%%%02x", (unsigned char)*name);
}

static const char* show(const void* address) {
  static char text[80];
  char host[INET6_ADDRSTRLEN] = "?";
  const struct sockaddr* generic = address;
  const struct sockaddr_in* v4 = address;
  const struct sockaddr_in6* v6 = address;
  if (generic->sa_family == AF_INET) {
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    snprintf(text, sizeof text, "%s:%d", host, ntohs(v4->sin_port));
  } else {
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    snprintf(text, sizeof text, "[%s]:%d", host, ntohs(v6->sin6_port));
  }
  return text;
}

static socklen_t address_of(const char* text, int port, struct sockaddr_storage* out) {
  struct sockaddr_in* v4 = (void*)out;
  struct sockaddr_in6* v6 = (void*)out;
  memset(out, 0, sizeof *out);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((unsigned short)port);
    return sizeof *v4;
  }
  inet_pton(AF_INET6, text, &v6->sin6_addr);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons((unsigned short)port);
  return sizeof *v6;
}

static void gai(void) {
  struct addrinfo hints = {0}, *found = NULL;
  hints.ai_family = given_word("family", families);
  hints.ai_socktype = given_word("type", types);
  hints.ai_protocol = given("protocol") != NULL ? atoi(given("protocol")) : 0;
  hints.ai_flags = given_word("flags", flags);
  const char* name = strcmp(words[1], "-") == 0 ? NULL : words[1];
  const int result = getaddrinfo(name, given("service"), words[2] != NULL ? &hints : NULL, &found);
  printf("%s", text_of(results, result));
  if (result != 0) return;
  for (const struct addrinfo* at = found; at != NULL; at = at->ai_next) {
    printf(" %s/%s/%d/%s", text_of(families, at->ai_family), text_of(types, at->ai_socktype), at->ai_protocol,
           show(at->ai_addr));
    if (at->ai_canonname != NULL && at == found) {
      printf("/");
      show_name(at->ai_canonname);
    }
  }
  freeaddrinfo(found);
}

static void gni(void) {
  struct sockaddr_storage address;
  char host[1100] = "", service[64] = "";
  const socklen_t size = address_of(words[1], atoi(words[2]), &address);
  const socklen_t host_room = given("host") != NULL ? (socklen_t)atoi(given("host")) : sizeof host;
  const socklen_t service_room = given("service") != NULL ? (socklen_t)atoi(given("service")) : sizeof service;
  const int result = getnameinfo((void*)&address, size, host_room ? host : NULL, host_room,
                                 service_room ? service : NULL, service_room, given_word("flags", name_flags));
  printf("%s", text_of(results, result));
  if (result != 0) return;
  printf(" ");
  show_name(host);
  printf(" %s", service);
}

static void show_host(const struct hostent* host) {
  printf("OK ");
  show_name(host->h_name);
  printf(" %s/%d", text_of(families, host->h_addrtype), host->h_length);
  for (char** at = host->h_addr_list; *at != NULL; ++at) {
    char text[INET6_ADDRSTRLEN];
    printf(" %s", inet_ntop(host->h_addrtype, *at, text, sizeof text));
  }
  for (char** at = host->h_aliases; *at != NULL; ++at) printf(" alias=%s", *at);
}

/* The room ends where the caller said, and a guard behind it must survive. */
static void by_host(int by_address) {
  struct hostent place, *found = NULL;
  struct sockaddr_storage address;
  char* room = NULL;
  const int family = given_word("family", families);
  int error = 0, result = 0;
  const size_t size = given("room") != NULL ? (size_t)atoi(given("room")) : 0;
  const void* bytes = NULL;
  socklen_t length = 4;
  if (by_address) {
    address_of(words[1], 0, &address);
    bytes = &((struct sockaddr_in*)&address)->sin_addr;
    if (address.ss_family == AF_INET6) {
      bytes = &((struct sockaddr_in6*)&address)->sin6_addr;
      length = 16;
    }
  }
  if (given("room") == NULL) {
    h_errno = 0;
    found = by_address ? gethostbyaddr(bytes, length, address.ss_family)
            : family   ? gethostbyname2(words[1], family)
                       : gethostbyname(words[1]);
    error = h_errno;
  } else {
    room = malloc(size + 16);
    memset(room, 0x5a, size + 16);
    result = by_address ? gethostbyaddr_r(bytes, length, address.ss_family, &place, room, size, &found, &error)
             : family   ? gethostbyname2_r(words[1], family, &place, room, size, &found, &error)
                        : gethostbyname_r(words[1], &place, room, size, &found, &error);
    for (size_t i = size; i < size + 16; ++i)
      if (room[i] != 0x5a) printf("OVERRUN ");
  }
  if (found != NULL) {
    show_host(found);
  } else {
    printf("%s", text_of(host_errors, error));
    if (result != 0) printf(" %s", text_of(errors, result));
  }
  free(room);
}

static long resident(void) {
  long pages = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) exit(2);
  fclose(file);
  return pages * 4;
}

static void loop(void) {
  struct addrinfo hints = {0}, *found;
  hints.ai_flags = given_word("flags", flags);
  const long count = atol(words[1]);
  long before = 0;
  for (long i = 0; i < count; ++i) {
    const int result = getaddrinfo(words[2], "80", &hints, &found);
    if (result != 0) {
      printf("%s", text_of(results, result));
      return;
    }
    freeaddrinfo(found);
    if (i == 100) before = resident();
  }
  printf("OK %ld", resident() - before);
}

static struct sockaddr_storage last;
static socklen_t last_size;

static int look_up(int type) {
  struct addrinfo hints = {0}, *found;
  hints.ai_family = given_word("family", families);
  hints.ai_socktype = type;
  const int result = getaddrinfo(words[1], words[2], &hints, &found);
  if (result != 0) {
    printf("%s", text_of(results, result));
    return 0;
  }
  memcpy(&last, found->ai_addr, found->ai_addrlen);
  last_size = found->ai_addrlen;
  freeaddrinfo(found);
  return 1;
}

static int finish_connect(int fd) {
  struct pollfd ready = {fd, POLLOUT, 0};
  int error = 0;
  socklen_t size = sizeof error;
  if (poll(&ready, 1, 20000) != 1) return ETIMEDOUT;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

static void dial(int nonblocking) {
  const int fd = socket(last.ss_family, SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0), 0);
  int error = connect(fd, (void*)&last, last_size) == 0 ? 0 : errno;
  if (nonblocking && error == EINPROGRESS) error = finish_connect(fd);
  printf("%s", text_of(errors, error));
  if (error == 0) {
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (getpeername(fd, (void*)&peer, &size) == 0) printf(" %s ", show(&peer));
    struct pollfd ready = {fd, POLLIN, 0};
    char byte;
    while (poll(&ready, 1, 20000) == 1 && read(fd, &byte, 1) == 1 && byte != '\n') putchar(byte);
  }
  close(fd);
}

static int nonblocking_asked(void) { return given("how") != NULL && strcmp(given("how"), "nonblocking") == 0; }

static void udp(void) {
  if (!look_up(SOCK_DGRAM)) return;
  const int fd = socket(last.ss_family, SOCK_DGRAM, 0);
  const char* how = given("how");
  ssize_t result = -1;
  if (strcmp(how, "connect") == 0) {
    result = connect(fd, (void*)&last, last_size);
    if (result == 0) result = send(fd, "x", 1, 0);
  } else if (strcmp(how, "sendto") == 0) {
    result = sendto(fd, "x", 1, 0, (void*)&last, last_size);
  } else {
    struct iovec part = {(void*)"x", 1};
    struct msghdr message = {0};
    message.msg_name = &last;
    message.msg_namelen = last_size;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    result = sendmsg(fd, &message, 0);
  }
  printf("%s", text_of(errors, result < 0 ? errno : 0));
  close(fd);
}

int main(void) {
  char line[8192];
  while (fgets(line, sizeof line, stdin) != NULL) {
    int count = 0;
    for (char* at = strtok(line, " \n"); at != NULL && count < 15; at = strtok(NULL, " \n")) words[count++] = at;
    words[count] = NULL;
    if (count == 0) continue;
    for (int i = 0; i < count; ++i) decode(words[i]);
    if (strcmp(words[0], "gai") == 0) gai();
    else if (strcmp(words[0], "gni") == 0) gni();
    else if (strcmp(words[0], "hbn") == 0) by_host(0);
    else if (strcmp(words[0], "hba") == 0) by_host(1);
    else if (strcmp(words[0], "loop") == 0) loop();
    else if (strcmp(words[0], "udp") == 0) udp();
    else if (strcmp(words[0], "again") == 0) dial(0);
    else if (strcmp(words[0], "tcp") == 0) {
      if (look_up(SOCK_STREAM)) dial(nonblocking_asked());
    } else return 2;
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
