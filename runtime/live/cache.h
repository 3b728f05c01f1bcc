/* The code cache's tables as the translator fills them. Each call returns NULL (or false) when the table is full. */
#ifndef AVANT_LIVE_CACHE_H
#define AVANT_LIVE_CACHE_H

#include "live/live.h"

/* The first bytes of the code cache: where dropped entries (v->rip is set) and landings (r10 is rip) lead. */
#define CACHE_STALE_ENTRY   0
#define CACHE_STALE_LANDING 16
#define CACHE_FIRST_OFFSET  64

static inline u32 cache_offset(const struct live *live, const u8 *writable)
{
	return (u32)(writable - live->code_rw);
}

struct pc_entry *cache_add_pc(struct live *live);
struct link *cache_add_link(struct live *live);
struct insn *cache_add_insn(struct live *live);
/* A place that host returns come back to. */
void cache_add_landing(struct live *live, u32 code);
/* A place (code cache offset) that is entered with v->rip == pc. */
bool cache_add_entry(struct live *live, u32 unit, u64 pc, u32 code);

/* The number of a target of direct jumps, new if need be; 0 if the table is full. */
u32 cache_target(struct live *live, u64 pc);

#endif
