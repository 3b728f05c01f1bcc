/*
 * An existing cache whose translations are taken over into a new one, as far as they are wanted still. It is not
 * trusted: it must be of this user or root, all of it is verified, and guest bytes are compared.
 */
#ifndef AVANT_AOT_REUSE_H
#define AVANT_AOT_REUSE_H

#include "build.h"
#include "plan.h"

struct reuse;

/*
 * Opens it and verifies all of it, also that it fits: same place, CPU model and options. NULL with a message in err
 * that names the file. It must stay open until the new cache is written, which may replace it.
 */
struct reuse *reuse_open(const char *path, const struct build *build, struct err *err);
void reuse_close(struct reuse *reuse);

const char *reuse_path(const struct reuse *reuse);

/* Finds what it has of the plan, which is complete. 0, or -1 with a message in err. */
int reuse_match(struct reuse *reuse, const struct plan *plan, struct err *err);

/* After reuse_match(): what there is of the planned unit with this number; how much there is altogether. */
enum reuse_kind { REUSE_NONE, REUSE_COPIED, REUSE_LIFTED };
enum reuse_kind reuse_kind(const struct reuse *reuse, size_t number);
size_t reuse_count(const struct reuse *reuse, enum reuse_kind kind);
/* It is to be made anew. */
void reuse_leave(struct reuse *reuse, size_t number);

/*
 * Takes all of that over into `build`, in which there is nothing yet. *unseen: bytes of host code of what no training
 * run has seen executed. 0, or -1 with a message in err.
 */
int reuse_keep(struct reuse *reuse, const struct plan *plan, struct build *build, u64 *unseen, struct err *err);

#endif
