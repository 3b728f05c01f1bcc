/* What the files of the gdb server share. */
#ifndef AVANT_DEBUG_GDB_INTERNAL_H
#define AVANT_DEBUG_GDB_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>

#include "debug/gdb_packet.h"
#include "debug/gdb_server.h"

struct gdb_server {
	struct vm *vm;
	struct debugger *debugger;
	int listener, client; /* -1: none */
	struct gdb_link link;
	struct gdb_reply reply;
	char *xml;        /* target.xml */
	bool physical;    /* memory packets name guest physical addresses */
	bool swbreak;     /* the client knows the stop reason swbreak */
	bool guest_runs;  /* … as far as the client knows: it waits for a stop reply */
	const char *stop; /* the stop reply for '?' */
	/* the watching thread */
	pthread_t thread;
	bool thread_started;
	sem_t arm;
	int quit;    /* eventfd */
	int watched; /* descriptor */
	bool armed;  /* the thread has been told to watch and has not seen anything yet */
};

enum gdb_outcome { GDB_STAY, GDB_GO_ON, GDB_STEP, GDB_DETACH, GDB_END };

/* Executes the packet in server->link and leaves an answer in server->reply; it is sent if the guest stays stopped. */
enum gdb_outcome gdb_command(struct gdb_server *server, bool *answer);

/* A line typed after `monitor`. Prints through packets of its own. */
enum gdb_outcome gdb_monitor(struct gdb_server *server, const char *line);

#endif
