/* Prints `preloaded=yes` when towpath's library is mapped into this process, and `libc=` with the family of its libc.
 */
#include <stdio.h>
#include <string.h>

int main(void) {
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096];
  int found = 0;
  if (maps == NULL) return 2;
  while (fgets(line, sizeof line, maps) != NULL) found |= strstr(line, "/libtowpath.so\n") != NULL;
  fclose(maps);
#ifdef __GLIBC__
  printf("preloaded=%s libc=glibc\n", found ? "yes" : "no");
#else
  printf("preloaded=%s libc=other\n", found ? "yes" : "no");
#endif
  return 0;
}
