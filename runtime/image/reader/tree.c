#include "image/reader/tree.h"

#include <string.h>

bool tree_name_ok(const char *name, size_t length)
{
	if (!length || length > NAME_MAX || memchr(name, '/', length) || memchr(name, 0, length))
		return false;
	return !(length == 1 && name[0] == '.') && !(length == 2 && name[0] == '.' && name[1] == '.');
}
