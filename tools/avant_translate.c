/* avant-translate: the program behind `avant translate`. */
#include "command.h"

int main(int argc, char **argv)
{
	command_start();
	return command_main(&command_translate, argc, argv);
}
