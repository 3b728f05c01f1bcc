/* Answers requests about an image (protocol.h) until the client has gone. */
#ifndef AVANT_IMAGE_SERVER_H
#define AVANT_IMAGE_SERVER_H

#include "util/types.h"

struct server;
struct wire;

/* NULL: no memory. */
struct server *server_create(int image_fd, bool directory);
void server_destroy(struct server *server);

/*
 * Answers one request; `reply` is empty and has PROTOCOL_REPLY_MAX bytes of room. Returns a descriptor that goes with
 * the reply and is the caller's to close, or -1.
 */
int server_answer(struct server *server, struct wire *request, struct wire *reply);

#endif
