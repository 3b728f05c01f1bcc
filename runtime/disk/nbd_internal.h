/* What connecting to an NBD server and using it share. */
#ifndef AVANT_DISK_NBD_INTERNAL_H
#define AVANT_DISK_NBD_INTERNAL_H

#include "disk/nbd_library.h"
#include "util/types.h"

struct err;

/* What the last call of the library failed with, without the name of the function that begins it. */
const char *nbd_reason(const struct nbd_library *library);

/* What poll(2) is to wait for: POLLIN, POLLOUT. */
short nbd_events(const struct nbd_library *library, struct nbd_handle *handle);

/* The server has closed the connection, or it has failed. */
bool nbd_has_ended(const struct nbd_library *library, struct nbd_handle *handle);

/* Poll has returned these events. False: the connection has ended; nbd_reason() may know why. */
bool nbd_notify(const struct nbd_library *library, struct nbd_handle *handle, short events);

/* Waits until the server answers. NULL with a message in err. */
struct nbd_handle *nbd_connect(const struct nbd_library *library, const char *uri, struct err *err);

/* Says good-bye if the server listens, and closes. */
void nbd_disconnect(const struct nbd_library *library, struct nbd_handle *handle);

#endif
