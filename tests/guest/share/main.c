/* share_check DIRECTORY io SEED OPERATIONS [mmap] | semantics */
#include "check.h"

#include <unistd.h>

int main(int argc, char **argv)
{
	CHECK(argc >= 3 && chdir(argv[1]) == 0);
	if (!strcmp(argv[2], "io")) {
		CHECK(argc >= 5);
		check_random_io((unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), argc > 5);
	} else {
		check_semantics();
	}
	printf("%s: good\n", argv[2]);
	return 0;
}
