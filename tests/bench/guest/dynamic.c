/*
 * The dynamically linked, position-independent program of the fork_exec_dynamic row: what it costs is its loading.
 * With --show it tells where it was loaded, to see address space randomization at work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--show"))
		printf("program %p, library %p, stack %p, heap %p\n", (void *)main, (void *)stdout, (void *)argv,
		       malloc(1));
	return 0;
}
