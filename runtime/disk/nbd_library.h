/*
 * libnbd, loaded when a disk needs it: with what it depends on (TLS, XML, Unicode tables) it would cost every launch
 * more than the rest of the program.
 */
#ifndef AVANT_DISK_NBD_LIBRARY_H
#define AVANT_DISK_NBD_LIBRARY_H

#include <libnbd.h>

struct err;

#define NBD_LIBRARY_FUNCTIONS(function)                                                                                \
	function(create) function(close) function(get_error) function(set_uri_allow_local_file)                        \
		function(set_pread_initialize) function(aio_connect_uri) function(aio_get_fd)                          \
			function(aio_get_direction) function(aio_notify_read) function(aio_notify_write)               \
				function(aio_is_ready) function(aio_is_dead) function(aio_is_closed)                   \
					function(aio_pread) function(aio_pwrite) function(aio_flush)                   \
						function(aio_trim) function(aio_zero) function(aio_disconnect)         \
							function(get_size) function(get_block_size)                    \
								function(is_read_only) function(can_flush)             \
									function(can_trim) function(can_zero)

/* nbd_create() is library->create() and so on. */
struct nbd_library {
#define NBD_LIBRARY_FIELD(name) __typeof__(nbd_##name) *name;
	NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_FIELD)
#undef NBD_LIBRARY_FIELD
};

/* It stays loaded. 0, or -1 with a message in err. */
int nbd_library_load(struct nbd_library *library, struct err *err);

#endif
