/* The code cache's tables as the translator fills them. Each call returns NULL (or false) when the table is full. */
#ifndef AVANT_LIVE_CACHE_H
#define AVANT_LIVE_CACHE_H

#include "live/live.h"

/* The first bytes of the code cache: a jump to STUB_JUMP_MISS, where dropped entries lead. */
#define CACHE_STALE_OFFSET 0
#define CACHE_FIRST_OFFSET 64

static inline u32 cache_offset(const struct live *live, const u8 *writable)
{
	return (u32)(writable - live->code_rw);
}

struct pc_entry *cache_add_pc(struct live *live);
struct link *cache_add_link(struct live *live);
struct insn *cache_add_insn(struct live *live);
/* A place (code cache offset) that is entered with v->rip == pc. */
bool cache_add_entry(struct live *live, u32 unit, u64 pc, u32 code);

#endif
