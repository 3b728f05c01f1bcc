/* Templates of caches: found by the guest's page, and made known to the live engine a page at a time. */
#ifndef AVANT_LIVE_AOT_TEMPLATE_H
#define AVANT_LIVE_AOT_TEMPLATE_H

#include "util/types.h"

struct aot_templates;
struct group;
struct tcache;
struct template;
struct templates;

/* Those of the cache, which must outlive the result. NULL: it has none, or memory is short. */
struct aot_templates *aot_templates_create(struct tcache *cache);
void aot_templates_destroy(struct aot_templates *aot);
u64 aot_templates_count(const struct aot_templates *aot);

/*
 * The group of templates for this page; or, if the cache does not know the page, for one that has the same code at this
 * offset in this mode. NULL: neither. Templates that are damaged are left out, with a warning.
 */
struct group *aot_templates_find(struct aot_templates *aot, struct templates *templates, const u8 *page, u32 offset,
				 u32 mode);

/*
 * A template of the group's page that was not executed in the training run, for these bytes, of which `length` are
 * there; it becomes known to the group, which does not know it yet. NULL: there is none.
 */
struct template *aot_templates_more(struct templates *templates, struct group *group, u32 offset, u32 mode,
				    const u8 *bytes, u32 length);

/* All groups have been forgotten. */
void aot_templates_forget(struct aot_templates *aot);

#endif
