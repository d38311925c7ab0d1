/* res_query NAME TYPE [search]: what libc's own resolver says, as key=value lines. */
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char** words) {
  unsigned char answer[4096];
  if (count < 3) return 2;
  int size = count > 3 ? res_search(words[1], 1, atoi(words[2]), answer, sizeof answer)
                       : res_query(words[1], 1, atoi(words[2]), answer, sizeof answer);
  if (size < 0) {
    printf("h_errno=%d\n", h_errno);
    return 1;
  }
  printf("answers=%d\n", answer[6] << 8 | answer[7]);
  /* The question, then records whose names are pointers. */
  int at = 12;
  while (at < size && answer[at] != 0) at += 1 + answer[at];
  at += 5;
  for (int i = 0; i < (answer[6] << 8 | answer[7]) && at + 12 <= size; i++) {
    int type = answer[at + 2] << 8 | answer[at + 3], length = answer[at + 10] << 8 | answer[at + 11];
    char text[64];
    at += 12;
    if (at + length > size) return 3;
    if (type == 1) printf("a=%s\n", inet_ntop(AF_INET, answer + at, text, sizeof text));
    else if (type == 28) printf("aaaa=%s\n", inet_ntop(AF_INET6, answer + at, text, sizeof text));
    else if (type == 16) printf("txt=%.*s\n", length - 1, answer + at + 1);
    at += length;
  }
  return 0;
}
