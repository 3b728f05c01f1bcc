#include "live/aot_template.h"

#include <stdlib.h>
#include <tcache.h>

#include "live/template.h"
#include "util/err.h"

struct aot_templates {
	struct tcache *cache;
	u64 template_count, page_count;
	struct group **groups; /* by page of the cache; NULL: not used yet */
	bool damage_said;
};

struct aot_templates *aot_templates_create(struct tcache *cache)
{
	struct aot_templates *aot;
	u64 count = tcache_templates_count(cache);

	if (!count)
		return NULL;
	aot = calloc(1, sizeof(*aot));
	if (!aot)
		return NULL;
	aot->cache = cache;
	aot->template_count = count;
	aot->page_count = tcache_pages_count(cache);
	aot->groups = calloc(aot->page_count + 1, sizeof(struct group *));
	if (aot->groups)
		return aot;
	free(aot);
	return NULL;
}

void aot_templates_destroy(struct aot_templates *aot)
{
	if (!aot)
		return;
	free(aot->groups);
	free(aot);
}

u64 aot_templates_count(const struct aot_templates *aot)
{
	return aot ? aot->template_count : 0;
}

static void complain(struct aot_templates *aot)
{
	if (!aot->damage_said)
		warn("%s; what is damaged is translated at run time instead", tcache_error(aot->cache));
	aot->damage_said = true;
}

/* NULL: damaged, or no memory. */
static struct template *import(struct aot_templates *aot, struct templates *templates, struct group *group, u32 number)
{
	struct tcache_template_view view;

	if (tcache_template_view(aot->cache, number, &view) == TCACHE_OK)
		return template_import(templates, group, &view);
	complain(aot);
	return NULL;
}

/* With what was executed in the training run; the rest, which may be much, waits until it is wanted. */
static struct group *import_page(struct aot_templates *aot, struct templates *templates, u32 page)
{
	struct tcache_page_range range;
	struct group *group = group_create(templates);

	if (!group)
		return NULL;
	if (tcache_page_templates(aot->cache, page, &range) != TCACHE_OK)
		complain(aot);
	for (u32 i = range.first; i < range.cold; i++)
		import(aot, templates, group, i);
	group_resolve_links(group);
	group->aot = aot;
	group->aot_cold = range.cold;
	group->aot_end = range.end;
	aot->groups[page] = group;
	return group;
}

/* Says so if it is not for lack of it that something was not found. */
static bool found(struct aot_templates *aot, enum tcache_status status)
{
	if (status != TCACHE_OK && status != TCACHE_ERR_RANGE)
		complain(aot);
	return status == TCACHE_OK;
}

/* The number of the page in the cache; false if there is none. */
static bool find_page(struct aot_templates *aot, const u8 *page, u32 offset, u32 mode, u32 *number)
{
	const struct tcache_template *t;
	u64 hash[2];
	u32 n;

	tcache_hash(page, PAGE_SIZE, hash);
	if (found(aot, tcache_page_find(aot->cache, hash, number)))
		return true;
	if (!found(aot, tcache_template_find(aot->cache, offset, mode, page + offset, PAGE_SIZE - offset, &n)))
		return false;
	t = tcache_templates(aot->cache, n, 1);
	if (!t || t->page >= aot->page_count)
		return false;
	*number = t->page;
	return true;
}

struct group *aot_templates_find(struct aot_templates *aot, struct templates *templates, const u8 *page, u32 offset,
				 u32 mode)
{
	u32 number;

	if (!find_page(aot, page, offset, mode, &number))
		return NULL;
	return aot->groups[number] ? aot->groups[number] : import_page(aot, templates, number);
}

struct template *aot_templates_more(struct templates *templates, struct group *group, u32 offset, u32 mode,
				    const u8 *bytes, u32 length)
{
	struct aot_templates *aot = group->aot;
	u32 number;

	if (!aot)
		return NULL;
	if (tcache_page_at(aot->cache, group->aot_cold, group->aot_end, offset, &number) != TCACHE_OK) {
		complain(aot);
		return NULL;
	}
	for (; number < group->aot_end; number++) {
		const struct tcache_template *t = tcache_templates(aot->cache, number, 1);
		u64 hash[2];

		if (!t || t->offset != offset)
			break;
		if (((t->mode ^ mode) & t->mode_mask) || t->guest_length > length)
			continue;
		tcache_hash(bytes, t->guest_length, hash);
		if (hash[0] == t->hash[0] && hash[1] == t->hash[1])
			return import(aot, templates, group, number);
	}
	return NULL;
}

void aot_templates_forget(struct aot_templates *aot)
{
	for (u64 i = 0; i < aot->page_count; i++)
		aot->groups[i] = NULL;
}
