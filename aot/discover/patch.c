/*
 * The kernel's text as it will be when it has booted on our machine with one processor: what alternative_instructions()
 * and the rest of start-up write, in their order. The CPU model asks for no retpolines and no return thunks.
 */
#include "internal.h"
#include "x86/insn.h"

#define PARAVIRT_SITE    16u /* struct paravirt_patch_site: u64 place, u8 number in pv_ops, u8 length */
#define THUNK_SIZE       32u /* retpoline thunks, one for each register */
#define CAPABILITY_MIN   18u
#define CAPABILITY_MAX   30u
#define CAPABILITY_USUAL 22u

/* --- paravirt (up to 6.7: since then these sites are alternatives) -------------------------------------------------
 */

/* pv_ops members that kvm_guest_init() sets before patching, on a machine as ours (KVM_FEATURE_NOP_IO_DELAY). */
static const struct {
	const char *from, *to;
} guest_ops[] = {
	{"native_io_delay", "kvm_io_delay"},
};

void patch_distance(const struct patcher *patcher, u64 field, u64 target)
{
	if (patcher->holes && holes_same_group(patcher->holes, field, target))
		holes_clear(patcher->holes, field, 4);
	else if (patcher->holes)
		holes_set(patcher->holes, field, 4, HOLE_RELATIVE);
}

u64 patch_guest_op(const struct image *kernel, u64 function)
{
	for (unsigned i = 0; i < ARRAY_SIZE(guest_ops); i++)
		if (function && function == image_find(kernel, guest_ops[i].from) &&
		    image_find(kernel, guest_ops[i].to))
			return image_find(kernel, guest_ops[i].to);
	return function;
}

static void patch_paravirt(struct patcher *p)
{
	struct image *image = p->image;
	struct table table;
	u64 ops = patch_find(p, "pv_ops"), nop = patch_find(p, "_paravirt_nop");
	u64 bug = patch_find(p, "paravirt_BUG");
	u32 count = 0;

	if (!find_table(image, p->elf, ".parainstructions", NULL, NULL, &table))
		return;
	if (!ops) {
		report_line(&image->report, ".parainstructions: pv_ops is not known, %llu sites stay",
			    (unsigned long long)(table.size / PARAVIRT_SITE));
		return;
	}
	for (u64 at = 0; at + PARAVIRT_SITE <= table.size; at += PARAVIRT_SITE) {
		u64 place = get64(table.bytes + at);
		u8 length = table.bytes[at + 9];
		const u8 *op = image_at(p->kernel, ops + 8ULL * table.bytes[at + 8], 8);
		u8 *bytes = image_write_at(image, place, length);
		u64 target = op ? patch_guest_op(p->kernel, get64(op)) : 0;
		u32 used = 0;

		if (!op || !bytes || !image_is_code(image, place))
			continue;
		if (!target)
			target = bug;
		if (target != nop && length < 5)
			continue;
		patch_plain(p, place, length);
		if (target != nop) {
			bytes[0] = 0xe8;
			put32(bytes + 1, (u32)(target - place - 5));
			patch_distance(p, place + 1, target);
			used = 5;
		}
		put_nops(bytes + used, length - used);
		count++;
	}
	report_line(&image->report, ".parainstructions: %u sites", count);
}

/* --- retpolines and return thunks -----------------------------------------------------------------------------------
 */

/* call/jmp/jcc __x86_indirect_thunk_<reg> becomes call/jmp *<reg>. */
static bool patch_retpoline(struct patcher *p, u64 place, u64 thunks)
{
	struct image *image = p->image;
	u8 *bytes = image_write_at(image, place, 5), out[INSN_MAX];
	struct insn insn;
	u64 number;
	u32 at = 0, op;

	if (!bytes || (bytes[0] == 0x2e || bytes[0] == 0x0f ? !image_at(image, place, 6) : false) ||
	    insn_decode(&insn, bytes, bytes[0] == 0x2e || bytes[0] == 0x0f ? 6 : 5))
		return false;
	if ((insn.class != INSN_CALL && insn.class != INSN_JMP && insn.class != INSN_JCC) || insn.length < 5)
		return false;
	number = (place + insn.length + (u64)insn.imm - thunks) / THUNK_SIZE;
	if (number > 15 || number == RSP)
		return false;
	if (insn.class == INSN_JCC) {
		out[at++] = (u8)(0x70 | (insn.cond ^ 1));
		out[at++] = (u8)(insn.length - 2);
	}
	op = insn.class == INSN_CALL ? 0xd0 : 0xe0;
	if (number >= 8)
		out[at++] = 0x41;
	out[at++] = 0xff;
	out[at++] = (u8)(op | (number & 7));
	if (insn.class != INSN_CALL && at < insn.length)
		out[at++] = 0xcc;
	if (at > insn.length)
		return false;
	put_nops(out + at, insn.length - at);
	memcpy(bytes, out, insn.length);
	patch_plain(p, place, insn.length);
	return true;
}

static void patch_retpolines(struct patcher *p)
{
	struct image *image = p->image;
	u64 thunks = patch_find(p, "__x86_indirect_thunk_array");
	struct table table;
	u32 count = 0;

	if (!find_table(image, p->elf, ".retpoline_sites", NULL, NULL, &table))
		return;
	if (!thunks)
		thunks = patch_find(p, "__x86_indirect_thunk_rax");
	for (u64 at = 0; thunks && at + 4 <= table.size; at += 4) {
		u64 place = table_relative(&table, at);

		count += image_is_executable(image, place) && patch_retpoline(p, place, thunks);
	}
	report_line(&image->report, ".retpoline_sites: %u of %llu made plain", count,
		    (unsigned long long)table.size / 4);
}

static void patch_returns(struct patcher *p)
{
	struct image *image = p->image;
	u64 thunk = patch_find(p, "__x86_return_thunk");
	struct table table;
	u32 count = 0;

	if (!find_table(image, p->elf, ".return_sites", NULL, NULL, &table))
		return;
	for (u64 at = 0; thunk && at + 4 <= table.size; at += 4) {
		u64 place = table_relative(&table, at);
		u8 *bytes = image_write_at(image, place, 5);

		/* in a replacement too, from where an alternative may take it */
		if (!bytes || !image_is_executable(image, place) || bytes[0] != 0xe9 ||
		    place + 5 + (u64)(s64)(s32)get32(bytes + 1) != thunk)
			continue;
		memset(bytes, 0xcc, 5);
		bytes[0] = 0xc3;
		patch_plain(p, place, 5);
		count++;
	}
	report_line(&image->report, ".return_sites: %u of %llu made plain", count, (unsigned long long)table.size / 4);
}

/* --- others ---------------------------------------------------------------------------------------------------------
 */

/* Functions whose address is never taken lose their endbr64. */
static void patch_endbr(struct patcher *p)
{
	struct image *image = p->image;
	static const u8 endbr[] = {0xf3, 0x0f, 0x1e, 0xfa}, sealed[] = {0x66, 0x0f, 0x1f, 0x00};
	struct table table;
	u32 count = 0;

	if (!find_table(image, p->elf, ".ibt_endbr_seal", NULL, NULL, &table))
		return;
	for (u64 at = 0; at + 4 <= table.size; at += 4) {
		u64 place = table_relative(&table, at);
		u8 *bytes = image_write_at(image, place, 4);

		if (!bytes || !image_is_code(image, place) || memcmp(bytes, endbr, 4) != 0)
			continue;
		memcpy(bytes, sealed, 4);
		patch_plain(p, place, 4);
		count++;
	}
	report_line(&image->report, ".ibt_endbr_seal: %u sealed", count);
}

/* Of modules, kernels before the newer layout of alternatives only do .text, not what comes behind. */
static void locked_range(const struct patcher *p, u64 *low, u64 *high)
{
	const struct elf_part *text = elf_section(p->elf, ".text");

	*low = 0;
	*high = UINT64_MAX;
	if (p->image == p->kernel || alternatives_are_newer(p->kernel))
		return;
	*low = text ? text->address : 0;
	*high = text ? text->address + text->size : 0;
}

/* With one processor, lock prefixes become the harmless one of DS; not in code that is discarded after boot. */
static void patch_locks(struct patcher *p)
{
	struct image *image = p->image;
	u64 low, high;
	struct table table;
	u32 count = 0;

	if (!find_table(image, p->elf, ".smp_locks", NULL, NULL, &table)) {
		report_line(&image->report, ".smp_locks: not found");
		return;
	}
	locked_range(p, &low, &high);
	for (u64 at = 0; at + 4 <= table.size; at += 4) {
		u64 place = table_relative(&table, at);
		u8 *bytes = image_write_at(image, place, 1);
		const struct code_range *range = image_range(image, place);

		if (!get32(table.bytes + at) || !bytes || !range || range->init || *bytes != 0xf0 || place < low ||
		    place >= high)
			continue;
		*bytes = 0x3e;
		count++;
	}
	report_line(&image->report, ".smp_locks: %u of %llu lock prefixes dropped (one processor)", count,
		    (unsigned long long)table.size / 4);
}

/*
 * How many words of feature bits there are before those of bugs differs by version, and alternatives name bugs too.
 * x86_cap_flags holds a pointer for each bit of the former, x86_bug_flags for the latter.
 */
static unsigned find_bug_word(const struct image *image)
{
	u64 start = image_find(image, "x86_cap_flags");
	u64 end = UINT64_MAX, bytes;

	for (u32 i = 0; start && i < image->symbol_count; i++)
		if (image->symbol[i].pc > start && image->symbol[i].pc < end)
			end = image->symbol[i].pc;
	bytes = end - start;
	if (start && bytes / 256 >= CAPABILITY_MIN && bytes / 256 <= CAPABILITY_MAX)
		return (unsigned)(bytes / 256);
	return CAPABILITY_USUAL;
}

void patch(struct patcher *p)
{
	struct table table;

	/* the kernel's static calls are set up first; then alternative_instructions(), in its order; keys and tracing
	 * at any time. Of a module, static calls come last, but nothing else is at their places. */
	patch_static_calls(p);
	patch_paravirt(p);
	patch_retpolines(p);
	patch_returns(p);
	if (find_table(p->image, p->elf, ".altinstructions", NULL, NULL, &table))
		patch_alternatives(p, &table, find_bug_word(p->kernel));
	else
		report_line(&p->image->report, ".altinstructions: not found");
	patch_endbr(p);
	patch_locks(p);
	patch_static_keys(p);
	patch_tracing(p);
}

void kernel_patch(struct image *image, const struct elf_file *elf, const struct cpu_model *cpu)
{
	struct patcher patcher = {.image = image, .kernel = image, .elf = elf, .cpu = cpu};

	patch(&patcher);
	patch_constants(&patcher);
}
