#include "translate/module_code.h"

#include <string.h>

static s32 get32(const u8 *at)
{
	s32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static u64 get64(const u8 *at)
{
	u64 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static bool put32(u8 *at, u64 value)
{
	u32 low = (u32)value;

	memcpy(at, &low, sizeof(low));
	return true;
}

/* The address that a fix-up is made of. */
static u64 address_of(const struct fixup *fixup, const struct module_place *place)
{
	const u32 at = MODULE_FIELD_AT(fixup->value);

	switch ((enum module_from)fixup->from) {
	case MODULE_FROM_PAGE:
		return PAGE_BASE(place->pc) + (u64)(s64)(s32)fixup->value;
	case MODULE_FROM_RELATIVE:
		return place->pc + at + 4 + MODULE_FIELD_BEHIND(fixup->value) + (u64)(s64)get32(place->bytes + at);
	case MODULE_FROM_ABSOLUTE:
		return (u64)(s64)get32(place->bytes + at);
	case MODULE_FROM_WIDE:
		return get64(place->bytes + at);
	case MODULE_FROMS:
		break;
	}
	return 0;
}

/* The number of the target; 0 if there is none left. */
static u32 number_of(u64 address, unsigned kind, struct store *numbers)
{
	const bool saved = kind == MODULE_NUMBER_SAVED || kind == MODULE_ELEMENT_SAVED;

	return store_target(numbers, saved ? address ^ TARGET_SAVED : address);
}

static bool is_s32(u64 value)
{
	return (s64)value == (s32)value;
}

bool module_fix(u8 *code, const struct fixup *fixup, const struct module_place *place)
{
	const u64 address = address_of(fixup, place), entry = tlb_index(address) * sizeof(struct tlb_entry);
	const u32 access = fixup->from == MODULE_FROM_PAGE ? 0 : MODULE_FIELD_ACCESS(fixup->value);
	u8 *at = code + fixup->at;
	u32 number;

	if (PAGE_OFFSET(address) + access > PAGE_SIZE)
		return false;
	switch ((enum module_fixup)fixup->kind) {
	case MODULE_ADDRESS:
		return is_s32(address) && put32(at, address);
	case MODULE_WIDE:
		memcpy(at, &address, sizeof(address));
		return true;
	case MODULE_MINUS:
		return is_s32(0 - address) && put32(at, 0 - address);
	case MODULE_TAG:
		return is_s32(0 - PAGE_BASE(address)) && put32(at, 0 - PAGE_BASE(address));
	case MODULE_READ:
		return put32(at, entry + offsetof(struct view, tlb) + offsetof(struct tlb_entry, ntag_read));
	case MODULE_WRITE:
		return put32(at, entry + offsetof(struct view, tlb_more) + offsetof(struct tlb_more, ntag_write));
	case MODULE_ADDEND:
		return put32(at, entry + offsetof(struct view, tlb) + offsetof(struct tlb_entry, addend));
	case MODULE_NUMBER:
	case MODULE_NUMBER_SAVED:
		number = number_of(address, fixup->kind, place->numbers);
		return number && put32(at, number);
	case MODULE_ELEMENT:
	case MODULE_ELEMENT_SAVED:
		number = number_of(address, fixup->kind, place->numbers);
		return number && put32(at, offsetof(struct view, target) + number * sizeof(void *));
	case MODULE_LINK:
		return put32(at, place->first_link + fixup->value);
	case MODULE_INSN:
		return put32(at, place->first_insn + fixup->value * (u32)sizeof(struct insn));
	case MODULE_FIXUPS:
		break;
	}
	return false;
}
