/* get NAME PORT [PROGRAM ARGUMENT...]: connects, prints the first bytes of the answer, and becomes PROGRAM. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char** words) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
  if (count < 3 || getaddrinfo(words[1], words[2], &hints, &found) != 0) return 1;
  int fd = socket(found->ai_family, SOCK_STREAM, 0);
  int failed = connect(fd, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  if (failed) {
    perror("connect");
    return 1;
  }
  char text[16] = {0};
  if (write(fd, "GET / HTTP/1.0\r\n\r\n", 18) != 18 || read(fd, text, 15) <= 0) return 1;
  close(fd);
  printf("got=%.8s preload=%s\n", text, getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "");
  fflush(stdout);
  if (count > 3) execvp(words[3], words + 3);
  return count > 3;
}
