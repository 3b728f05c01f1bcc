#include "disk/nbd_library.h"

#include "util/err.h"
#include "util/types.h"

#include <dlfcn.h>
#include <string.h>

#define LIBRARY "libnbd.so.0"

int nbd_library_load(struct nbd_library *library, struct err *err)
{
	static const struct {
		const char *name;
		size_t field;
	} functions[] = {
#define FUNCTION(name) {"nbd_" #name, offsetof(struct nbd_library, name)},
		NBD_LIBRARY_FUNCTIONS(FUNCTION)
#undef FUNCTION
	};
	void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(err, "NBD needs a library that cannot be loaded: %s", dlerror());
	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++) {
		void *function = dlsym(handle, functions[i].name);

		if (!function)
			return err_set(err, LIBRARY " has no %s", functions[i].name);
		memcpy((char *)library + functions[i].field, &function, sizeof(function));
	}
	return 0;
}
