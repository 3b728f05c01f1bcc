/*
 * gdb's connection: one client at a time on a TCP socket. While the guest is stopped the vCPU's thread serves it; while
 * the guest runs, a thread of the server's watches the socket and sets debugger->attention.
 */
#ifndef AVANT_DEBUG_GDB_SERVER_H
#define AVANT_DEBUG_GDB_SERVER_H

#include "debug/debugger.h"
#include "util/err.h"

#define GDB_HOST_MAX 256

struct gdb_address {
	char host[GDB_HOST_MAX];
	char port[8];
};

/* "[HOST]:PORT", with an IPv6 address in brackets; without a host: this machine only. 0, or -1 with a message in err.
 */
int gdb_address_parse(const char *text, struct gdb_address *address, struct err *err);

/* Listens at `text`, and says on stderr where. NULL with a message in err. */
struct gdb_server *gdb_server_create(struct vm *vm, struct debugger *debugger, const char *text, struct err *err);
/* Tells the client how the run ended (vm->exit). NULL is allowed. */
void gdb_server_destroy(struct gdb_server *server);

/* Serves a client, waiting for one if need be, until the guest is to go on or vm->exit says that the run is over. */
void gdb_server_stop(struct gdb_server *server, enum debugger_stop why);
/* The guest runs, and something has come: is it to be stopped? */
bool gdb_server_wants_stop(struct gdb_server *server);

#endif
