/*
 * A small cache for tests: two images, four units, three templates, three units of modules, every chunk type. And means
 * to damage it: edits of named places, and seal(), which makes all digests right again after them, as somebody would
 * who wants to be believed.
 */
#ifndef TESTS_CACHE_SAMPLE_H
#define TESTS_CACHE_SAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../cache-format/internal.h"

#define SAMPLE_KERNEL_SIZE 5000u

struct sample {
	struct tcache_image images[2];
	struct tcache_placement placement[1];
	struct tcache_unit units[4];
	uint32_t by_code[4];
	uint8_t code[96];
	struct tcache_pc pcs[22];
	struct tcache_entry entries[13];
	struct tcache_link links[2];
	uint64_t cells[2];
	uint64_t targets[2];
	struct tcache_insn insns[4];
	struct tcache_verdict verdicts[2];
	struct tcache_profile profile[2];
	uint8_t guest[53];
	char log[40];
	uint8_t kernel[SAMPLE_KERNEL_SIZE];
	struct tcache_executed executed[3];
	uint64_t counts[4];
	char strings[48];
	struct tcache_template templates[3];
	struct tcache_page pages[2];
	uint32_t by_content[2];
	uint8_t template_code[160];
	struct tcache_template_link template_links[1];
	struct tcache_goal goals[1];
	uint32_t fixups[8];
	struct tcache_recorded_page recorded_pages[1];
	struct tcache_module_unit module_units[3];
	struct tcache_module_page module_pages[2];
	struct tcache_module_key module_keys[3];
	uint16_t module_holes[3];
	uint8_t module_code[144];
	struct tcache_insn module_insns[2];
	struct tcache_module_fixup module_fixups[14];
};

static inline struct tcache_fingerprint sample_fingerprint(void)
{
	struct tcache_fingerprint f = {.translator = "sample 1", .guest_cpu = "sample-v3"};

	f.host_features[0] = 1ULL << TCACHE_HOST_BMI2 | 1ULL << TCACHE_HOST_AVX2;
	for (unsigned i = 0; i < sizeof(f.options); i++)
		f.options[i] = (uint8_t)i;
	return f;
}

/* The seed 0, 1, 2 …: a key for tests and nothing else. */
static inline void sample_key(uint8_t public_key[32], uint8_t secret_key[TCACHE_SECRET_KEY_SIZE])
{
	static const uint8_t public_bytes[32] = {
		0x03, 0xa1, 0x07, 0xbf, 0xf3, 0xce, 0x10, 0xbe, 0x1d, 0x70, 0xdd, 0x18, 0xe7, 0x4b, 0xc0, 0x99,
		0x67, 0xe4, 0xd6, 0x30, 0x9b, 0xa5, 0x0d, 0x5f, 0x1d, 0xdc, 0x86, 0x64, 0x12, 0x55, 0x31, 0xb8,
	};

	/* libsodium's form: seed, then public key */
	for (unsigned i = 0; i < 32; i++)
		secret_key[i] = (uint8_t)i;
	memcpy(secret_key + 32, public_bytes, 32);
	memcpy(public_key, public_bytes, 32);
}

/* A unit's ranges in the other chunks. */
struct sample_ranges {
	uint32_t code, code_size, body;
	uint32_t pc, pcs;
	uint32_t entry, entries;
	uint32_t link, links;
	uint32_t insn, insns;
	uint32_t guest, guest_size;
};

static inline struct tcache_unit sample_unit(const struct sample *s, uint64_t pc, uint32_t mode, uint32_t flags,
					     uint32_t instructions, const struct sample_ranges *r)
{
	struct tcache_unit u = {.pc = pc,
				.mode = mode,
				.mode_mask = 0xffffffff,
				.flags = flags,
				.guest_length = r->guest_size,
				.instruction_count = instructions,
				.image = pc >> 63 ? 1 : 2,
				.code_offset = r->code,
				.code_length = r->code_size,
				.body_offset = r->body,
				.pc_first = r->pc,
				.pc_count = r->pcs,
				.entry_first = r->entry,
				.entry_count = r->entries,
				.link_first = r->link,
				.link_count = r->links,
				.insn_first = r->insn,
				.insn_count = r->insns,
				.guest_offset = r->guest + 1};

	tcache_hash(s->guest + r->guest, r->guest_size, u.hash);
	return u;
}

/* Kernel code; a function of a program in two modes; a loop that reaches into its second page. In the order of code. */
static inline void sample_units(struct sample *s)
{
	/* push rbp; mov rbp,rsp; call +27; pop rbp; ret - xor eax,eax; ret - inc rax; jnz -5; ret */
	static const uint8_t guest[] = {0x55, 0x48, 0x89, 0xe5, 0xe8, 27,   0,    0,    0,    0x5d,
					0xc3, 0x31, 0xc0, 0xc3, 0x48, 0xff, 0xc0, 0x75, 0xfb, 0xc3};
	static const struct sample_ranges kernel = {0, 40, 8, 0, 5, 0, 2, 0, 1, 0, 1, 0, 11};
	static const struct sample_ranges user = {40, 16, 6, 5, 2, 2, 1, 1, 0, 1, 0, 11, 3};
	static const struct sample_ranges loop = {56, 24, 0, 7, 3, 3, 2, 1, 1, 1, 1, 14, 6};
	static const struct sample_ranges other = {80, 16, 6, 10, 2, 5, 1, 2, 0, 2, 0, 11, 3};
	struct tcache_unit *u = s->units;

	memcpy(s->guest, guest, sizeof(guest));
	u[0] = sample_unit(s, 0xffffffff81000010, 0x100, TCACHE_UNIT_COPIED, 5, &kernel);
	u[0].name = 10;
	u[0].executions = 5;
	u[0].saved_offset = 13;
	u[1] = sample_unit(s, 0x401010, 0x103, TCACHE_UNIT_COPIED | TCACHE_UNIT_COLD, 2, &user);
	u[2] = sample_unit(s, 0x401ffd, 0x103, TCACHE_UNIT_LIFTED, 3, &loop);
	u[2].name = 20;
	u[2].name_offset = 13;
	u[2].executions = 1000000;
	u[3] = sample_unit(s, 0x401010, 0x107, TCACHE_UNIT_COPIED, 2, &other);
	qsort(u, 4, sizeof(*u), tcache_unit_compare);
	s->by_code[0] = 3;
	s->by_code[1] = 0;
	s->by_code[2] = 2;
	s->by_code[3] = 1;
}

static inline void sample_code(struct sample *s)
{
	static const uint8_t code[] = {
		/* mov r10,0xffffffff81000010; nop */
		0x49, 0xc7, 0xc2, 0x10, 0, 0, 0x81, 0x90,
		/* mov gs:[r11-8],rbp; lea r11,[r11-8]; mov rbp,r11; call [0x50001000] */
		0x65, 0x49, 0x89, 0x6b, 0xf8, 0x4d, 0x8d, 0x5b, 0xf8, 0x4c, 0x89, 0xdd, 0xff, 0x14, 0x25, 0, 0x10, 0,
		0x50,
		/* mov rbp,gs:[r11]; lea r11,[r11+8]; ret; cold path */
		0x65, 0x49, 0x8b, 0x2b, 0x4d, 0x8d, 0x5b, 0x08, 0xc3, 0xcc, 0xcc, 0xcc, 0xc3,
		/* mov r10d,0x401010; xor eax,eax; ret */
		0x41, 0xba, 0x10, 0x10, 0x40, 0, 0x31, 0xc0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
		/* inc rax; jnz -5; jmp [0x50001008]; cold path; slow path: call [0x10000138]; jmp to the beginning */
		0x48, 0xff, 0xc0, 0x75, 0xfb, 0xff, 0x24, 0x25, 0x08, 0x10, 0, 0x50, 0xc3, 0xff, 0x14, 0x25, 0x38, 0x01,
		0, 0x10, 0xeb, 0xea, 0xcc, 0xcc,
		/* as the second */
		0x41, 0xba, 0x10, 0x10, 0x40, 0, 0x31, 0xc0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc};
	static const struct tcache_pc pcs[] = {
		{.code = 0, .guest = 0, .left = 5},   {.code = 17, .guest = 1, .home = 1u << 10, .left = 4},
		{.code = 20, .guest = 4, .left = 3},  {.code = 27, .guest = 9, .left = 2},
		{.code = 35, .guest = 10, .left = 1}, {.code = 0, .guest = 0, .left = 2},
		{.code = 8, .guest = 2, .left = 1},   {.code = 3, .guest = 3, .left = 1},
		{.code = 5, .guest = 5, .left = 1},   {.code = 13, .guest = 0, .left = 2},
		{.code = 0, .guest = 0, .left = 2},   {.code = 8, .guest = 2, .left = 1},
	};
	static const struct tcache_entry entries[] = {
		{.code = 8, .guest = 0}, {.code = 27, .guest = 9}, {.code = 6, .guest = 0},
		{.code = 0, .guest = 0}, {.code = 5, .guest = 5},  {.code = 6, .guest = 0},
	};
	static const struct tcache_insn insns[] = {{{0xe8, 27, 0, 0, 0}, 5}, {{0xc3}, 1}};

	_Static_assert(sizeof(code) == sizeof(s->code), "size of the sample");
	memcpy(s->code, code, sizeof(code));
	memcpy(s->pcs, pcs, sizeof(pcs));
	memcpy(s->entries, entries, sizeof(entries));
	memcpy(s->insns, insns, sizeof(insns));
	s->placement[0] = (struct tcache_placement){.code_address = 0x50000000,
						    .cells_address = 0x50001000,
						    .insns_address = 0x50002000,
						    .insn_size = 64,
						    .first_target = 100,
						    .first_link = 7};
	s->links[0] = (struct tcache_link){.target = 0x24, .cold = 36, .site = 20};
	s->links[1] = (struct tcache_link){.target = -0xfed, .cold = 12, .flags = TCACHE_LINK_SAVED, .site = 5};
	s->cells[0] = 0x50000000 + 0 + 36;
	s->cells[1] = 0x50000000 + 56 + 12;
	s->targets[0] = 0xffffffff81000040;
	s->targets[1] = 0x401010;
}

static inline struct tcache_template sample_template(const struct sample *s, uint32_t page, uint16_t offset,
						     uint16_t instructions, const struct sample_ranges *r)
{
	struct tcache_template t = {.mode = 0x103,
				    .mode_mask = 0xffffffff,
				    .offset = offset,
				    .guest_length = (uint16_t)r->guest_size,
				    .instruction_count = instructions,
				    .flags = TCACHE_UNIT_COPIED,
				    .page = page,
				    .code_offset = r->code,
				    .code_length = r->code_size,
				    .body_offset = r->body,
				    .pc_first = r->pc,
				    .pc_count = r->pcs,
				    .entry_first = r->entry,
				    .entry_count = r->entries,
				    .insn_first = r->insn,
				    .insn_count = r->insns,
				    .link_first = r->link,
				    .link_count = r->links,
				    .guest_offset = r->guest + 1,
				    .image = 2,
				    .name = 20};

	for (uint32_t i = 0; i < r->guest_size && i < 8; i++)
		t.first |= (uint64_t)s->guest[r->guest + i] << 8 * i;
	tcache_hash(s->guest + r->guest, r->guest_size, t.hash);
	return t;
}

/* A function that reads the next page and jumps to the one after that, or within its own; CPUID, in two pages. */
static inline void sample_templates(struct sample *s)
{
	/* mov rax,[rip+0xfe9]; jnz +7; jmp +0x1fe2 - cpuid; ret */
	static const uint8_t guest[] = {0x48, 0x8b, 0x05, 0xe9, 0x0f, 0,    0,    0x75, 7,
					0xe9, 0xe2, 0x1f, 0,    0,    0x0f, 0xa2, 0xc3};
	static const uint8_t code[] = {
		/* mov r10,0x7f0000000010; mov r9,-0x7f0000001000 */
		0x49, 0xba, 0x10, 0, 0, 0, 0, 0x7f, 0, 0, 0x49, 0xb9, 0, 0xf0, 0xff, 0xff, 0xff, 0x80, 0xff, 0xff,
		/* mov rax,gs:[0x10]; mov rcx,gs:[0x18]; mov rdx,gs:[0x20010] */
		0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0, 0x65, 0x48, 0x8b, 0x0c, 0x25, 0x18, 0, 0, 0, 0x65, 0x48,
		0x8b, 0x14, 0x25, 0x10, 0, 2, 0,
		/* jnz to the cold path; mov dword [0x10000040],0; jmp gs:[0x1000] */
		0x0f, 0x85, 0x13, 0, 0, 0, 0xc7, 0x04, 0x25, 0x40, 0, 0, 0x10, 0, 0, 0, 0, 0x65, 0xff, 0x24, 0x25, 0,
		0x10, 0, 0,
		/* cold path: mov dword [0x10000040],0; jmp [0x10000138] */
		0xc7, 0x04, 0x25, 0x40, 0, 0, 0x10, 0, 0, 0, 0, 0xff, 0x24, 0x25, 0x38, 0x01, 0, 0x10, 0xcc, 0xcc, 0xcc,
		0xcc, 0xcc, 0xcc,
		/* mov edi,0x50002080; call [0x10000130]; ret */
		0xbf, 0x80, 0x20, 0, 0x50, 0xff, 0x14, 0x25, 0x30, 0x01, 0, 0x10, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
		0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
		/* the same with 0x500020c0 */
		0xbf, 0xc0, 0x20, 0, 0x50, 0xff, 0x14, 0x25, 0x30, 0x01, 0, 0x10, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
		0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc};
	static const struct tcache_pc pcs[] = {{.code = 0, .guest = 0, .left = 3},
					       {.code = 47, .guest = 7, .left = 2},
					       {.code = 53, .guest = 9, .left = 1},
					       {.code = 0, .guest = 0, .left = 2},
					       {.code = 0, .guest = 0, .left = 2}};
	static const struct sample_ranges reads = {0, 96, 10, 12, 3, 6, 1, 0, 1, 0, 0, 20, 14};
	static const struct sample_ranges cpuid = {96, 32, 5, 15, 1, 7, 1, 1, 0, 2, 1, 34, 3};
	static const struct sample_ranges other = {128, 32, 5, 16, 1, 8, 1, 1, 0, 3, 1, 34, 3};
	/* in the order of kinds: address, minus; reading, writing, addend; link - instruction - instruction */
	static const uint32_t fixups[] = {2, 12, 25, 43, 34, 79, 1, 1};

	_Static_assert(sizeof(code) == sizeof(s->template_code), "size of the sample");
	memcpy(s->guest + 20, guest, sizeof(guest));
	memcpy(s->template_code, code, sizeof(code));
	memcpy(s->pcs + 12, pcs, sizeof(pcs));
	memcpy(s->fixups, fixups, sizeof(fixups));
	s->insns[2] = s->insns[3] = (struct tcache_insn){{0x0f, 0xa2}, 2};
	s->pages[0] = (struct tcache_page){.hash = {9, 1}, .first = 0, .count = 2};
	s->pages[1] = (struct tcache_page){.hash = {5, 2}, .first = 2, .count = 1};
	s->templates[0] = sample_template(s, 0, 0x10, 3, &reads);
	s->templates[1] = sample_template(s, 0, 0x20, 2, &cpuid);
	s->templates[2] = sample_template(s, 1, 0x20, 2, &other);
	s->templates[0].executions = 3;
	s->templates[0].goal_count = 1;
	for (unsigned kind = TCACHE_FIXUP_ADDRESS; kind <= TCACHE_FIXUP_LINK; kind++)
		s->templates[0].fixup_count[kind] = 1;
	for (unsigned i = 1; i < 3; i++) {
		s->templates[i].goal_first = 1;
		s->templates[i].fixup_first = 5 + i;
		s->templates[i].fixup_count[TCACHE_FIXUP_INSN] = 1;
	}
	s->templates[2].flags |= TCACHE_UNIT_COLD;
	s->by_content[1] = 1;
	s->template_links[0] =
		(struct tcache_template_link){.patch = 49, .target = 0x20, .flags = TCACHE_TEMPLATE_LINK_TAKEN};
	s->goals[0] = (struct tcache_goal){.number = 60, .entry = 68, .target = 0x2000};
}

static inline struct tcache_module_unit sample_module(const struct sample *s, uint32_t page, uint16_t offset,
						      uint16_t instructions, const struct sample_ranges *r)
{
	struct tcache_module_unit u = {.mode = 0x100,
				       .mode_mask = 0xffffffff,
				       .page = page,
				       .offset = offset,
				       .guest_length = (uint16_t)r->guest_size,
				       .instruction_count = instructions,
				       .flags = TCACHE_UNIT_COPIED | TCACHE_UNIT_COLD,
				       .code_offset = r->code,
				       .code_length = r->code_size,
				       .body_offset = r->body,
				       .saved_offset = r->body,
				       .pc_first = r->pc,
				       .pc_count = r->pcs,
				       .entry_first = r->entry,
				       .entry_count = r->entries,
				       .insn_first = r->insn,
				       .insn_count = r->insns,
				       .guest_offset = r->guest + 1};

	tcache_hash(s->guest + r->guest, r->guest_size, u.hash);
	return u;
}

/* A function that calls through one hole and reads through another; CPUID, in two pages. */
static inline void sample_modules(struct sample *s)
{
	/* call hole; mov rax,[rip+hole]; ret - cpuid; ret */
	static const uint8_t guest[] = {0xe8, 0x5a, 0x5a, 0x5a, 0x5a, 0x48, 0x8b, 0x05,
					0x5a, 0x5a, 0x5a, 0x5a, 0xc3, 0x0f, 0xa2, 0xc3};
	static const uint8_t code[] = {
		/* lea rcx,[rcx+0x3fffffc0]; mov r10,0x1a5a5aa6 */
		0x48, 0x8d, 0x89, 0xc0, 0xff, 0xff, 0x3f, 0x49, 0xc7, 0xc2, 0xa6, 0x5a, 0x5a, 0x1a,
		/* cmp qword gs:[0x10],0xe5a5b000; mov rax,gs:[0x18] */
		0x65, 0x48, 0x81, 0x3c, 0x25, 0x10, 0, 0, 0, 0, 0xb0, 0xa5, 0xe5, 0x65, 0x48, 0x8b, 0x04, 0x25, 0x18, 0,
		0, 0,
		/* mov dword [0x10000040],0; call gs:[0x1000] */
		0xc7, 0x04, 0x25, 0x40, 0, 0, 0x10, 0, 0, 0, 0, 0x65, 0xff, 0x14, 0x25, 0, 0x10, 0, 0,
		/* the landing: lea rcx,[r10+0x3fffffbb]; jmp to the cold path */
		0x49, 0x8d, 0x8a, 0xbb, 0xff, 0xff, 0x3f, 0xe9, 0, 0, 0, 0,
		/* cold path: mov dword [0x10000040],0; jmp [0x10000138] */
		0xc7, 0x04, 0x25, 0x40, 0, 0, 0x10, 0, 0, 0, 0, 0xff, 0x24, 0x25, 0x38, 0x01, 0, 0x10,
		/* where it leads when it is no more: mov qword [0x10000048],0xc0000040; jmp [0x10000140] */
		0x48, 0xc7, 0x04, 0x25, 0x48, 0, 0, 0x10, 0x40, 0, 0, 0xc0, 0xff, 0x24, 0x25, 0x40, 0x01, 0, 0x10, 0xcc,
		0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
		/* mov r10d,0; call [0x10000130]; ret; twice */
		0x41, 0xba, 0, 0, 0, 0, 0xff, 0x14, 0x25, 0x30, 0x01, 0, 0x10, 0xc3, 0xcc, 0xcc, 0x41, 0xba, 0, 0, 0, 0,
		0xff, 0x14, 0x25, 0x30, 0x01, 0, 0x10, 0xc3, 0xcc, 0xcc};
	static const struct tcache_pc pcs[] = {{.code = 0, .guest = 0, .left = 3},
					       {.code = 55, .guest = 5, .left = 2},
					       {.code = 62, .guest = 12, .left = 1},
					       {.code = 0, .guest = 0, .left = 2},
					       {.code = 0, .guest = 0, .left = 2}};
	static const struct tcache_entry entries[] = {
		{.code = 0, .guest = 0}, {.code = 55, .guest = 5}, {.code = 0, .guest = 0}, {.code = 0, .guest = 0}};
	static const struct tcache_module_fixup fixups[] = {
		{3, TCACHE_MODULE_MINUS, TCACHE_MODULE_FROM_PAGE, 0x40},
		{10, TCACHE_MODULE_ADDRESS, TCACHE_MODULE_FROM_RELATIVE, 8},
		{19, TCACHE_MODULE_READ, TCACHE_MODULE_FROM_RELATIVE, 8},
		{23, TCACHE_MODULE_TAG, TCACHE_MODULE_FROM_RELATIVE, 8 | 8 << 24},
		{32, TCACHE_MODULE_ADDEND, TCACHE_MODULE_FROM_RELATIVE, 8},
		{43, TCACHE_MODULE_NUMBER, TCACHE_MODULE_FROM_RELATIVE, 1},
		{51, TCACHE_MODULE_ELEMENT, TCACHE_MODULE_FROM_RELATIVE, 1},
		{58, TCACHE_MODULE_MINUS, TCACHE_MODULE_FROM_PAGE, 0x45},
		{74, TCACHE_MODULE_LINK, TCACHE_MODULE_FROM_PAGE, 0},
		{93, TCACHE_MODULE_ADDRESS, TCACHE_MODULE_FROM_PAGE, 0x40},
		{63, TCACHE_MODULE_JUMP, TCACHE_MODULE_FROM_PAGE, 0x60},
		{55, TCACHE_MODULE_LANDING, TCACHE_MODULE_FROM_PAGE, 0},
		{2, TCACHE_MODULE_INSN, TCACHE_MODULE_FROM_PAGE, 0},
		{2, TCACHE_MODULE_INSN, TCACHE_MODULE_FROM_PAGE, 0},
	};
	static const uint16_t holes[] = {0x41, 0x48, 0x100 | TCACHE_HOLE_WIDE};
	static const struct sample_ranges calls = {0, 104, 7, 17, 3, 9, 2, 0, 0, 0, 0, 37, 13};
	static const struct sample_ranges cpuid = {112, 14, 6, 20, 1, 11, 1, 0, 0, 0, 1, 50, 3};
	static const struct sample_ranges other = {128, 14, 6, 21, 1, 12, 1, 0, 0, 1, 1, 50, 3};

	_Static_assert(sizeof(code) == sizeof(s->module_code) && sizeof(guest) + 37 == sizeof(s->guest) &&
			       sizeof(pcs) + 17 * sizeof(pcs[0]) == sizeof(s->pcs) &&
			       sizeof(fixups) == sizeof(s->module_fixups) && sizeof(holes) == sizeof(s->module_holes),
		       "sizes of the sample");
	memcpy(s->guest + 37, guest, sizeof(guest));
	memcpy(s->module_code, code, sizeof(code));
	memcpy(s->pcs + 17, pcs, sizeof(pcs));
	memcpy(s->entries + 9, entries, sizeof(entries));
	memcpy(s->module_fixups, fixups, sizeof(fixups));
	memcpy(s->module_holes, holes, sizeof(holes));
	s->module_insns[0] = s->module_insns[1] = (struct tcache_insn){{0x0f, 0xa2}, 2};
	s->module_pages[0] = (struct tcache_module_page){.hash = {7, 1}, .first = 0, .count = 2, .hole_count = 2};
	s->module_pages[1] =
		(struct tcache_module_page){.hash = {6, 2}, .first = 2, .count = 1, .hole_first = 2, .hole_count = 1};
	s->module_units[0] = sample_module(s, 0, 0x40, 3, &calls);
	s->module_units[1] = sample_module(s, 0, 0x60, 2, &cpuid);
	s->module_units[2] = sample_module(s, 1, 0x60, 2, &other);
	s->module_units[0].fixup_count = 12;
	s->module_units[0].stale_offset = s->module_units[0].stale_saved_offset = 85;
	for (uint32_t i = 1; i < 3; i++) {
		s->module_units[i].fixup_first = 11 + i;
		s->module_units[i].fixup_count = 1;
	}
	for (uint32_t i = 0; i < 3; i++) {
		const struct tcache_module_unit *u = &s->module_units[i];
		const struct tcache_module_page *page = &s->module_pages[u->page];

		s->module_keys[i] = tcache_module_key_of(u, i, s->guest + u->guest_offset - 1,
							 s->module_holes + page->hole_first, page->hole_count);
	}
}

/* What a recording would have: the loop, the kernel's function, the template that reads. */
static inline void sample_recording(struct sample *s)
{
	s->executed[0] = (struct tcache_executed){.pc = 0x401ffd,
						  .mode = 0x103,
						  .guest_length = 6,
						  .bytes_first = 14,
						  .count_first = 0,
						  .count_count = 2};
	s->executed[1] = (struct tcache_executed){.pc = 0xffffffff81000010,
						  .mode = 0x100,
						  .guest_length = 11,
						  .bytes_first = 0,
						  .count_first = 2,
						  .count_count = 1};
	s->counts[0] = 1000000;
	s->counts[1] = 1;
	s->executed[2] = (struct tcache_executed){.pc = 0x7f123456f010,
						  .mode = 0x103,
						  .guest_length = 14,
						  .bytes_first = 20,
						  .count_first = 3,
						  .count_count = 1,
						  .page = 1};
	s->counts[2] = 5;
	s->counts[3] = 3;
	s->recorded_pages[0] = (struct tcache_recorded_page){{9, 1}};
}

static inline void sample_fill(struct sample *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->strings, "\0kernel-1\0start\0    loop\0", 25);
	memcpy(s->log, "2 images, 4 units, nothing left out\n", 36);
	memcpy(s->kernel,
	       "\x7f"
	       "ELF",
	       4);
	s->kernel[SAMPLE_KERNEL_SIZE - 1] = 0xee;
	s->images[0] = (struct tcache_image){
		.size = 1234, .data_size = SAMPLE_KERNEL_SIZE, .name = 1, .kind = TCACHE_IMAGE_KERNEL, .data = 16};
	s->images[1] = (struct tcache_image){.size = 99, .name = 20, .kind = TCACHE_IMAGE_PROGRAM};
	tcache_digest("kernel", 6, s->images[0].digest);
	tcache_digest("program", 7, s->images[1].digest);
	sample_units(s);
	sample_code(s);
	sample_templates(s);
	sample_modules(s);
	s->verdicts[0] = (struct tcache_verdict){.hash = {1, 2}, .image = 0, .page = 7, .flags = TCACHE_VERDICT_PLAIN};
	s->verdicts[1] = (struct tcache_verdict){.hash = {3, 4}, .image = 1, .page = 1};
	s->profile[0] = (struct tcache_profile){.hash = {8, 1}, .pc = 0x401ffd, .count = 1000000, .mode = 0x103};
	s->profile[1] = (struct tcache_profile){.hash = {7, 2}, .pc = 0xffffffff81000010, .count = 5, .mode = 0x100};
	sample_recording(s);
}

/* Number of the chunk in a sample file: the order of TCACHE_CHUNKS. */
enum sample_chunk {
#define X(name, fourcc, record, single, flags, schema, text) SAMPLE_##name,
	TCACHE_CHUNKS(X)
#undef X
		SAMPLE_CHUNKS
};

/* Appends all chunks. */
static inline void sample_chunks(struct tcache_writer *w, const struct sample *s)
{
#define X(name, fourcc, record, single, flags, schema, text) [SAMPLE_##name] = {.type = fourcc},
	struct {
		uint32_t type;
		const void *data;
		size_t size;
	} c[] = {TCACHE_CHUNKS(X)};
#undef X
#define SAMPLE_DATA(name, field) c[SAMPLE_##name].data = s->field, c[SAMPLE_##name].size = sizeof(s->field)
	SAMPLE_DATA(images, images);
	SAMPLE_DATA(placement, placement);
	SAMPLE_DATA(units, units);
	SAMPLE_DATA(by_code, by_code);
	SAMPLE_DATA(code, code);
	SAMPLE_DATA(pcs, pcs);
	SAMPLE_DATA(entries, entries);
	SAMPLE_DATA(links, links);
	SAMPLE_DATA(cells, cells);
	SAMPLE_DATA(targets, targets);
	SAMPLE_DATA(insns, insns);
	SAMPLE_DATA(verdicts, verdicts);
	SAMPLE_DATA(profile, profile);
	SAMPLE_DATA(guest, guest);
	SAMPLE_DATA(kernel, kernel);
	SAMPLE_DATA(executed, executed);
	SAMPLE_DATA(counts, counts);
	SAMPLE_DATA(strings, strings);
	SAMPLE_DATA(templates, templates);
	SAMPLE_DATA(pages, pages);
	SAMPLE_DATA(by_content, by_content);
	SAMPLE_DATA(template_code, template_code);
	SAMPLE_DATA(template_links, template_links);
	SAMPLE_DATA(goals, goals);
	SAMPLE_DATA(fixups, fixups);
	SAMPLE_DATA(recorded_pages, recorded_pages);
	SAMPLE_DATA(module_units, module_units);
	SAMPLE_DATA(module_pages, module_pages);
	SAMPLE_DATA(module_keys, module_keys);
	SAMPLE_DATA(module_holes, module_holes);
	SAMPLE_DATA(module_code, module_code);
	SAMPLE_DATA(module_insns, module_insns);
	SAMPLE_DATA(module_fixups, module_fixups);
#undef SAMPLE_DATA
	c[SAMPLE_log].data = s->log;
	c[SAMPLE_log].size = strlen(s->log);
	for (unsigned i = 0; i < SAMPLE_CHUNKS; i++)
		tcache_writer_chunk(w, c[i].type, c[i].data, c[i].size);
}

/* Writes a whole sample file; is_signed: with the test key. Returns the writer's status. */
static inline enum tcache_status sample_write(const char *path, const struct sample *s, bool is_signed, char *error,
					      size_t size)
{
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	uint8_t public_key[32], secret_key[TCACHE_SECRET_KEY_SIZE];
	struct tcache_writer *w;
	enum tcache_status status;

	sample_key(public_key, secret_key);
	options.secret_key = is_signed ? secret_key : NULL;
	status = tcache_writer_create(path, &options, &w, error, size);
	if (status)
		return status;
	sample_chunks(w, s);
	return tcache_writer_finish(w, error, size);
}

/* ---- a file in memory ---- */

struct bytes {
	uint8_t *data;
	size_t size;
};

static inline struct bytes bytes_new(size_t size)
{
	struct bytes b = {calloc(1, size + 1), size};

	if (!b.data)
		abort();
	return b;
}

static inline struct bytes bytes_copy(const struct bytes *from)
{
	struct bytes b = bytes_new(from->size);

	memcpy(b.data, from->data, from->size);
	return b;
}

/* Aborts if it cannot be read. */
static inline struct bytes bytes_read(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct bytes b;
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0) {
		perror(path);
		abort();
	}
	b = bytes_new((size_t)size);
	rewind(file);
	if (fread(b.data, 1, b.size, file) != b.size)
		abort();
	fclose(file);
	return b;
}

static inline struct tcache_header *bytes_header(const struct bytes *b)
{
	return (struct tcache_header *)b->data;
}

static inline struct tcache_toc_entry *bytes_toc(const struct bytes *b)
{
	return (struct tcache_toc_entry *)(b->data + bytes_header(b)->tail);
}

static inline struct tcache_footer *bytes_footer(const struct bytes *b)
{
	return (struct tcache_footer *)(b->data + b->size) - 1;
}

/* Makes the digests right for what the bytes are now, wherever the tables make any sense. */
static inline void bytes_seal(const struct bytes *b)
{
	struct tcache_header *h = bytes_header(b);
	uint64_t tables;

	if (b->size < TCACHE_PAGE || h->tail > b->size || h->tail % 8 ||
	    b->size - h->tail < sizeof(struct tcache_footer))
		return;
	tables = (uint64_t)h->chunk_count * sizeof(struct tcache_toc_entry) +
		 (uint64_t)h->group_count * sizeof(struct tcache_group);
	if (tables <= b->size - h->tail - sizeof(struct tcache_footer)) {
		struct tcache_toc_entry *toc = bytes_toc(b);
		struct tcache_group *groups = (struct tcache_group *)(toc + h->chunk_count);

		for (uint32_t i = 0; i < h->chunk_count; i++)
			for (uint64_t n = 0; n < toc[i].group_count && toc[i].first_group + n < h->group_count; n++) {
				uint64_t padded = pages_up(toc[i].length), start = n * TCACHE_GROUP;
				uint64_t size = padded - start < TCACHE_GROUP ? padded - start : TCACHE_GROUP;

				if (start >= padded || toc[i].offset > b->size || start > b->size - toc[i].offset ||
				    size > b->size - toc[i].offset - start)
					break;
				tcache_group_digest(h->group_digest, b->data + toc[i].offset + start, size,
						    groups[toc[i].first_group + n].digest);
			}
	}
	tcache_root_digest(b->data, b->data + h->tail, b->size - h->tail, bytes_footer(b)->digest);
}

#endif
