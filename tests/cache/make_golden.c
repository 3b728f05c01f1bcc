/*
 * Makes the examples in this folder: make_golden DIRECTORY writes them, make_golden --check DIRECTORY compares them
 * with what it would write, make_golden --cache NAME FILE writes one as the cache that it stands for. What a reader
 * must say of each is written here by hand, not found out by asking it.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "golden_text.h"

enum place {
	NOWHERE,
	HEADER, /* byte offsets from here */
	ENTRY,  /* from the chunk's entry in the table of contents */
	CHUNK,  /* from the chunk's first byte */
	FOOTER,
	FILE_END, /* changes the length: value is what is added */
	FILE_SIZE /* sets the length */
};

struct edit {
	enum place place;
	enum sample_chunk chunk;
	size_t offset;
	unsigned size;
	uint64_t value;
};

struct example {
	const char *name;
	const char *comment;
	const char *expect;
	struct edit edit[8];
	bool unsealed; /* leave the digests as they were */
	bool like_signed;
};

#define H(field, v)                                                                                                    \
	{                                                                                                              \
		HEADER, 0, offsetof(struct tcache_header, field), sizeof(((struct tcache_header *)0)->field), v        \
	}
#define E(chunk, field, v)                                                                                             \
	{                                                                                                              \
		ENTRY, SAMPLE_##chunk, offsetof(struct tcache_toc_entry, field),                                       \
			sizeof(((struct tcache_toc_entry *)0)->field), v                                               \
	}
#define R(chunk, record, n, field, v)                                                                                  \
	{                                                                                                              \
		CHUNK, SAMPLE_##chunk, (n) * sizeof(struct tcache_##record) + offsetof(struct tcache_##record, field), \
			sizeof(((struct tcache_##record *)0)->field), v                                                \
	}
#define F(field, v)                                                                                                    \
	{                                                                                                              \
		FOOTER, 0, offsetof(struct tcache_footer, field), sizeof(((struct tcache_footer *)0)->field), v        \
	}
#define BYTE(place, chunk, offset, v)                                                                                  \
	{                                                                                                              \
		place, SAMPLE_##chunk, offset, 1, v                                                                    \
	}
/* Digests made right after the edits; left as they were; the same as the first, in the signed file. */
#define SEALED(n, c, e, ...)                                                                                           \
	{                                                                                                              \
		.name = n, .comment = c, .expect = e, .edit = { __VA_ARGS__ }                                          \
	}
#define UNSEALED(n, c, e, ...)                                                                                         \
	{                                                                                                              \
		.name = n, .comment = c, .expect = e, .edit = {__VA_ARGS__}, .unsealed = true                          \
	}
#define LIKE_SIGNED(n, c, e, ...)                                                                                      \
	{                                                                                                              \
		.name = n, .comment = c, .expect = e, .edit = {__VA_ARGS__}, .like_signed = true                       \
	}
#define BAD(status, message) status ": 'x.tcache': " message

/* clang-format off */
static const struct example examples[] = {
	/* the file */
	SEALED("bad-empty", "no bytes at all", BAD("wrong-length", "is empty"), {FILE_SIZE, 0, 0, 0, 0}),
	SEALED("bad-three-bytes", "shorter than the magic number", BAD("not-a-cache", "is not a translated-code cache"), {FILE_SIZE, 0, 0, 0, 3}),
	SEALED("bad-magic", "another kind of file", BAD("not-a-cache", "is not a translated-code cache"), BYTE(HEADER, images, 1, 'X')),
	SEALED("bad-cut-header", "ends within the header page", BAD("wrong-length", "is cut off after 300 bytes"), {FILE_SIZE, 0, 0, 0, 300}),
	SEALED("bad-cut-page", "the last page is missing", BAD("wrong-length", "has 147456 bytes, its header says 151552"), {FILE_END, 0, 0, 0, -4096ULL}),
	UNSEALED("bad-longer", "something follows the footer", BAD("wrong-length", "has 151553 bytes, its header says 151552"), {FILE_END, 0, 0, 0, 1}),
	/* header */
	SEALED("bad-version", "a later format", BAD("format-version", "written by format version 7, this is version 3"), H(version, 7), F(version, 7)),
	SEALED("bad-version-zero", "an impossible format", BAD("format-version", "written by format version 0, this is version 3"), H(version, 0)),
	SEALED("bad-header-size", "a longer header", BAD("bad-header", "header, page or group size is wrong (512, 4096, 4096)"), H(header_size, 512)),
	SEALED("bad-page-size", "other pages", BAD("bad-header", "header, page or group size is wrong (256, 16384, 4096)"), H(page_size, 16384)),
	SEALED("bad-header-flags", "a flag without meaning", BAD("bad-header", "header has unknown flags (0x80000000)"), H(flags, 0x80000000)),
	SEALED("bad-digest-kind", "a digest without meaning", BAD("bad-header", "header names an unknown digest (3)"), H(group_digest, 3)),
	SEALED("bad-header-text", "a control character in the translator's name", BAD("bad-header", "header has a malformed text"), BYTE(HEADER, images, offsetof(struct tcache_header, fingerprint.translator) + 2, 27)),
	SEALED("bad-header-text-rest", "bytes after the end of a text", BAD("bad-header", "header has a malformed text"), BYTE(HEADER, images, offsetof(struct tcache_header, fingerprint.guest_cpu) + 20, 'x')),
	SEALED("bad-header-reserved", "a reserved byte in use", BAD("bad-header", "reserved bytes of the header are not zero"), BYTE(HEADER, images, 255, 1)),
	SEALED("bad-header-page", "the rest of the header page in use", BAD("bad-header", "reserved bytes of the header are not zero"), BYTE(HEADER, images, 4095, 1)),
	SEALED("bad-length", "a length beyond the limit", BAD("limit", "claims to be 18446744073709551615 bytes long"), H(length, UINT64_MAX)),
	SEALED("bad-chunk-count", "too many chunks", BAD("limit", "has too many chunks or page groups (257, 35)"), H(chunk_count, 257)),
	SEALED("bad-tail", "the table of contents elsewhere", BAD("bad-header", "table of contents cannot be at offset 81920 (of 151552)"), H(tail, 81920)),
	SEALED("bad-tail-overflow", "the table of contents beyond the end", BAD("bad-header", "table of contents cannot be at offset 18446744073709547520 (of 151552)"), H(tail, -4096ULL)),
	/* damage */
	UNSEALED("bad-damaged-header", "a bit of the options digest has changed", BAD("damaged", "header, table of contents or footer is damaged (digest mismatch)"), BYTE(HEADER, images, offsetof(struct tcache_header, fingerprint.options), 0x40)),
	UNSEALED("bad-damaged-toc", "a chunk's length has changed", BAD("damaged", "header, table of contents or footer is damaged (digest mismatch)"), E(code, length, 97)),
	UNSEALED("bad-damaged-footer", "the footer's digest has changed", BAD("damaged", "header, table of contents or footer is damaged (digest mismatch)"), BYTE(FOOTER, images, offsetof(struct tcache_footer, digest) + 31, 0)),
	UNSEALED("bad-damaged-code", "a byte of the code has changed", BAD("damaged", "chunk CODE is damaged at file offset 20480 … 24575 (digest mismatch)"), BYTE(CHUNK, code, 60, 0xcc)),
	UNSEALED("bad-damaged-template", "a byte of a template's code has changed", BAD("damaged", "chunk TCOD is damaged at file offset 98304 … 102399 (digest mismatch)"), BYTE(CHUNK, template_code, 5, 0xcc)),
	UNSEALED("bad-damaged-padding", "a byte behind the strings has changed", BAD("damaged", "chunk STRS is damaged at file offset 81920 … 86015 (digest mismatch)"), BYTE(CHUNK, strings, 4095, 1)),
	/* footer */
	SEALED("bad-footer-magic", "the last page was never written", BAD("bad-footer", "does not end with a footer: not written to its end"), F(magic, 0)),
	SEALED("bad-footer-length", "header and footer disagree", BAD("bad-footer", "footer contradicts the header"), F(length, 4096)),
	SEALED("bad-footer-reserved", "a reserved field in use", BAD("bad-footer", "reserved bytes in or before the footer are not zero"), BYTE(FOOTER, images, 63, 1)),
	SEALED("bad-unsigned-key", "a key in an unsigned file", BAD("bad-footer", "has a signature, but is not marked as signed"), BYTE(FOOTER, images, offsetof(struct tcache_footer, public_key), 1)),
	SEALED("bad-signed-xxh3", "signed, but with digests that can be forged", BAD("bad-header", "is signed, but its digests can be forged"), H(flags, TCACHE_SIGNED)),
	LIKE_SIGNED("bad-signature", "code exchanged, digests renewed, signature kept", BAD("bad-signature", "signature is not valid"), BYTE(CHUNK, code, 60, 0xcc)),
	/* table of contents */
	SEALED("bad-overlap", "a chunk lies on another", BAD("bad-table-of-contents", "chunk UNIT overlaps what is before it"), E(units, offset, 8192)),
	SEALED("bad-overlap-header", "a chunk lies on the header", BAD("bad-table-of-contents", "chunk IMGS overlaps what is before it"), E(images, offset, 0)),
	SEALED("bad-gap", "pages that belong to no chunk", BAD("bad-table-of-contents", "there is a gap before chunk PCTB"), E(pcs, offset, 28672)),
	SEALED("bad-unaligned", "a chunk in the middle of a page", BAD("bad-table-of-contents", "chunk CODE is not aligned to a page"), E(code, offset, 20488)),
	SEALED("bad-beyond", "a chunk reaches into the table of contents", BAD("bad-table-of-contents", "chunk MFIX reaches beyond the chunks' end"), E(module_fixups, length, 4104)),
	SEALED("bad-overflow", "offset + length wraps around", BAD("bad-table-of-contents", "chunk STRS reaches beyond the chunks' end"), E(strings, length, -4096ULL)),
	SEALED("bad-offset", "a chunk after the end", BAD("bad-table-of-contents", "chunk STRS reaches beyond the chunks' end"), E(strings, offset, 1ULL << 62)),
	SEALED("bad-groups", "page groups that are another chunk's", BAD("bad-table-of-contents", "page groups of chunk CODE do not fit its length"), E(code, first_group, 1)),
	SEALED("bad-group-count", "no page group", BAD("bad-table-of-contents", "page groups of chunk CODE do not fit its length"), E(code, group_count, 0)),
	SEALED("bad-short-chunks", "a chunk says it is empty", BAD("bad-table-of-contents", "there is a gap before chunk TMPL"), E(strings, length, 0), E(strings, group_count, 0)),
	SEALED("bad-fewer-chunks", "one chunk fewer: bytes remain before the footer", BAD("bad-footer", "reserved bytes in or before the footer are not zero"), H(chunk_count, 26)),
	SEALED("bad-partial-record", "half a record", BAD("bad-table-of-contents", "chunk UNIT is not a whole number of records"), E(units, length, 511)),
	SEALED("bad-element-zero", "records of no size", BAD("bad-table-of-contents", "chunk UNIT is not a whole number of records"), E(units, element_size, 0)),
	SEALED("bad-chunk-flags", "a flag without meaning", BAD("bad-table-of-contents", "chunk BLOG has unknown flags or reserved fields"), E(log, flags, 2)),
	SEALED("bad-chunk-reserved", "a reserved field in use", BAD("bad-table-of-contents", "chunk BLOG has unknown flags or reserved fields"), E(log, reserved[2], 1)),
	SEALED("bad-twice", "the same chunk twice", BAD("bad-table-of-contents", "has more than one chunk CODE"), E(log, type, TCACHE_TYPE_code)),
	SEALED("bad-unknown", "a critical chunk of unknown type", BAD("unknown-chunk", "chunk ABCD, schema 1, is needed but not known here"), E(log, type, TCACHE_FOURCC('A', 'B', 'C', 'D')), E(log, flags, TCACHE_CRITICAL)),
	SEALED("bad-unprintable", "the same, with a type that is no text", BAD("unknown-chunk", "chunk 01020304, schema 1, is needed but not known here"), E(log, type, 0x01020304), E(log, flags, TCACHE_CRITICAL)),
	SEALED("bad-schema", "a critical chunk of a later schema", BAD("unknown-chunk", "chunk UNIT, schema 2, is needed but not known here"), E(units, schema, 2)),
	SEALED("bad-element-size", "records of another size", BAD("unknown-chunk", "chunk UNIT, schema 1, is needed but not known here"), E(units, element_size, 64)),
	SEALED("good-unknown", "an optional chunk of unknown type", "ok", E(log, type, TCACHE_FOURCC('A', 'B', 'C', 'D'))),
	SEALED("good-schema", "an optional chunk of a later schema", "ok", E(profile, schema, 2)),
	/* fingerprint */
	SEALED("bad-translator", "made by another translator", BAD("fingerprint", "made by translator 'sample 2', this is 'sample 1'"), BYTE(HEADER, images, offsetof(struct tcache_header, fingerprint.translator) + 7, '2')),
	SEALED("bad-guest-cpu", "made for another CPU model", BAD("fingerprint", "made for guest CPU 'sample-v4', this is 'sample-v3'"), BYTE(HEADER, images, offsetof(struct tcache_header, fingerprint.guest_cpu) + 8, '4')),
	SEALED("bad-options", "made with other options", BAD("fingerprint", "made with other options"), BYTE(HEADER, images, offsetof(struct tcache_header, fingerprint.options), 0x40)),
	SEALED("bad-host-feature", "needs more than the host has", BAD("fingerprint", "needs host CPU feature 'sha_ni', which this host lacks"), H(fingerprint.host_features[0], 1ULL << TCACHE_HOST_SHA)),
	SEALED("bad-host-feature-unknown", "needs what nobody knows", BAD("fingerprint", "needs host CPU feature number 127, which is not known here"), H(fingerprint.host_features[1], 1ULL << 63)),
	SEALED("good-host-feature", "needs less than the host has", "ok", H(fingerprint.host_features[0], 1ULL << TCACHE_HOST_BMI2)),
	/* records; sealed, so only the contents are wrong */
	SEALED("bad-padding", "bytes behind a chunk", BAD("bad-record", "bytes after chunk STRS are not zero"), BYTE(CHUNK, strings, 4095, 1)),
	SEALED("bad-image-kind", "an unknown kind of image", BAD("bad-record", "image 1 is of unknown kind 9"), R(images, image, 1, kind, 9)),
	SEALED("bad-image-data", "unpacked bytes in the wrong chunk", BAD("bad-record", "unpacked bytes of image 0 are not where it says"), R(images, image, 0, data, 5)),
	SEALED("bad-image-chunk", "unpacked bytes in no chunk", BAD("bad-record", "unpacked bytes of image 0 are not where it says"), R(images, image, 0, data, UINT32_MAX)),
	SEALED("bad-image-size", "unpacked bytes of another length", BAD("bad-record", "unpacked bytes of image 0 are not where it says"), R(images, image, 0, data_size, 4999)),
	SEALED("bad-image-name", "a name that is not there", BAD("out-of-range", "has no string at 48"), R(images, image, 1, name, 48)),
	SEALED("bad-placement-none", "code, but no word where it belongs", BAD("bad-record", "does not say where its code belongs"), E(placement, type, TCACHE_FOURCC('A', 'B', 'C', 'D')), E(placement, flags, 0)),
	SEALED("bad-placement-two", "two places for the code", BAD("bad-record", "does not say where its code belongs"), E(placement, length, 128)),
	SEALED("bad-placement-unaligned", "code in the middle of a page", BAD("bad-record", "code cannot be at 0x50000800 (0x1000 bytes)"), R(placement, placement, 0, code_address, 0x50000800)),
	SEALED("bad-placement-low", "cells in somebody else's area", BAD("bad-record", "cells cannot be at 0x4ffff000 (0x1000 bytes)"), R(placement, placement, 0, cells_address, 0x4ffff000)),
	SEALED("bad-placement-high", "instructions that reach beyond the area", BAD("bad-record", "instructions cannot be at 0x7efff000 (0x4000 bytes)"), R(placement, placement, 0, insns_address, 0x7efff000), R(placement, placement, 0, insn_size, 4096)),
	SEALED("bad-placement-wrap", "an address close to the end of all", BAD("bad-record", "cells cannot be at 0xfffffffffffff000 (0x1000 bytes)"), R(placement, placement, 0, cells_address, 0xfffffffffffff000)),
	SEALED("bad-placement-overlap", "cells where code is", BAD("bad-record", "code and cells overlap"), R(placement, placement, 0, cells_address, 0x50000000)),
	SEALED("bad-placement-insn", "decoded instructions of no size", BAD("bad-record", "decoded instructions cannot have 0 bytes"), R(placement, placement, 0, insn_size, 0)),
	SEALED("bad-placement-numbers", "numbers of targets wrap around", BAD("bad-record", "numbers of targets or links are too high (from 4294967294, from 7)"), R(placement, placement, 0, first_target, UINT32_MAX - 1)),
	SEALED("bad-placement-reserved", "a reserved field in use", BAD("bad-record", "reserved fields of the placement are not zero"), R(placement, placement, 0, reserved[6], 1)),
	SEALED("bad-unit-flags", "neither lifted nor copied", BAD("bad-record", "unit 2 has the flags 0x0"), R(units, unit, 2, flags, 0)),
	SEALED("bad-unit-length", "longer than anything", BAD("bad-record", "unit 2 has 3 instructions in 4112 bytes at 0x401000"), R(units, unit, 2, guest_length, 4112), R(units, unit, 2, pc, 0x401000)),
	SEALED("bad-unit-pages", "in three pages", BAD("bad-record", "unit 2 has 3 instructions in 4100 bytes at 0x401ffd"), R(units, unit, 2, guest_length, 4100)),
	SEALED("bad-unit-wrap", "guest addresses wrap around", BAD("bad-record", "unit 2 has 3 instructions in 6 bytes at 0xfffffffffffffffd"), R(units, unit, 2, pc, -3ULL)),
	SEALED("bad-unit-instructions", "more instructions than bytes", BAD("bad-record", "unit 2 has 7 instructions in 6 bytes at 0x401ffd"), R(units, unit, 2, instruction_count, 7)),
	SEALED("bad-unit-image", "of an image that is not there", BAD("bad-record", "unit 2 is of image 2, which does not exist"), R(units, unit, 2, image, 3)),
	SEALED("bad-unit-reserved", "a reserved field in use", BAD("bad-record", "reserved fields of unit 2 are not zero"), R(units, unit, 2, reserved[2], 1)),
	SEALED("bad-unit-order", "out of order", BAD("bad-record", "unit 2 is out of order, or there twice"), R(units, unit, 2, pc, 0x401000)),
	SEALED("bad-unit-order-mode", "modes out of order", BAD("bad-record", "unit 1 is out of order, or there twice"), R(units, unit, 1, mode, 0x102)),
	SEALED("bad-unit-code", "code beyond the end", BAD("out-of-range", "has no records 73 to 97 in chunk CODE (it holds 96)"), R(units, unit, 2, code_offset, 73)),
	SEALED("bad-unit-code-overflow", "code beyond the end, 32 bits wrap around", BAD("out-of-range", "has no records 4294967295 to 4294967319 in chunk CODE (it holds 96)"), R(units, unit, 2, code_offset, UINT32_MAX)),
	SEALED("bad-unit-body", "second entry outside of the code", BAD("bad-record", "unit 2 has no code, or its second entry lies outside of it"), R(units, unit, 2, body_offset, 24)),
	SEALED("bad-unit-saved", "third entry outside of the code", BAD("bad-record", "unit 2 has no code, or its second entry lies outside of it"), R(units, unit, 2, saved_offset, 24)),
	SEALED("bad-unit-mode", "a mode beyond its mask", BAD("bad-record", "unit 2 has a mode that its mask does not cover"), R(units, unit, 2, mode_mask, 0xfffffffe)),
	SEALED("bad-unit-pcs", "pc records beyond the end", BAD("out-of-range", "has no records 7 to 23 in chunk PCTB (it holds 22)"), R(units, unit, 2, pc_count, 16)),
	SEALED("bad-unit-entries", "entries beyond the end", BAD("out-of-range", "has no records 3 to 14 in chunk ENTR (it holds 13)"), R(units, unit, 2, entry_count, 11)),
	SEALED("bad-unit-links", "links beyond the end", BAD("out-of-range", "has no records 2 to 3 in chunk LINK (it holds 2)"), R(units, unit, 2, link_first, 2)),
	SEALED("bad-unit-insns", "instructions beyond the end", BAD("out-of-range", "has no records 4294967295 to 4294967296 in chunk INSN (it holds 4)"), R(units, unit, 2, insn_first, UINT32_MAX)),
	SEALED("bad-unit-name", "a name that is not there", BAD("out-of-range", "has no string at 1000"), R(units, unit, 2, name, 1000)),
	SEALED("bad-unit-guest", "guest bytes beyond the end", BAD("out-of-range", "has no records 48 to 54 in chunk GBYT (it holds 53)"), R(units, unit, 2, guest_offset, 49)),
	SEALED("bad-guest-hash", "other guest bytes than those translated", BAD("bad-record", "guest bytes of unit 2 do not have its hash"), BYTE(CHUNK, guest, 16, 0xc1)),
	SEALED("good-no-guest", "guest bytes are in a chunk that is not understood", "ok", E(guest, schema, 2), E(executed, schema, 3), E(templates, schema, 3), E(pages, schema, 3), E(by_content, schema, 2), E(module_units, schema, 2), E(module_pages, schema, 2), E(module_keys, schema, 2)),
	SEALED("bad-by-code-count", "a unit is missing in the order of code", BAD("bad-record", "has 4 units, but 3 in the order of their code"), E(by_code, length, 12), {CHUNK, SAMPLE_by_code, 12, 4, 0}),
	SEALED("bad-by-code-order", "code out of order", BAD("bad-record", "unit 0 is there twice in the order of code, or overlaps"), {CHUNK, SAMPLE_by_code, 0, 4, 0}),
	SEALED("bad-by-code-number", "a unit that is not there", BAD("out-of-range", "has no records 4 to 5 in chunk UNIT (it holds 4)"), {CHUNK, SAMPLE_by_code, 12, 4, 4}),
	SEALED("bad-by-code-overlap", "the code of two units overlaps", BAD("bad-record", "unit 0 is there twice in the order of code, or overlaps"), R(units, unit, 3, code_length, 41)),
	SEALED("bad-pc-code", "a host offset beyond the unit", BAD("bad-record", "pc record 2 of unit 2 is out of bounds or out of order"), R(pcs, pc, 9, code, 24)),
	SEALED("bad-pc-guest", "a guest offset beyond the unit", BAD("bad-record", "pc record 2 of unit 2 is out of bounds or out of order"), R(pcs, pc, 9, guest, 6)),
	SEALED("bad-pc-order", "host offsets not ascending", BAD("bad-record", "pc record 2 of unit 3 is out of bounds or out of order"), R(pcs, pc, 2, code, 17)),
	SEALED("bad-entry-code", "an entry beyond the code", BAD("bad-record", "entry 1 of unit 2 is out of bounds"), R(entries, entry, 4, code, 24)),
	SEALED("bad-entry-guest", "an entry beyond the guest bytes", BAD("bad-record", "entry 1 of unit 2 is out of bounds"), R(entries, entry, 4, guest, 6)),
	SEALED("bad-entry-reserved", "a reserved field in use", BAD("bad-record", "entry 1 of unit 2 is out of bounds"), R(entries, entry, 4, reserved, 1)),
	SEALED("bad-link-cold", "a cold path beyond the code", BAD("bad-record", "cold path of link 0 of unit 2 is out of bounds"), R(links, link, 1, cold, 24)),
	SEALED("bad-link-direct", "a direct jump that is none", BAD("bad-record", "link 0 of unit 2 is no jump to where it leads"), R(links, link, 1, flags, 3)),
	SEALED("bad-link-flags", "a flag without meaning", BAD("bad-record", "link 0 of unit 2 has unknown flags"), R(links, link, 1, flags, 4)),
	SEALED("bad-link-other-cell", "a jump through another cell", BAD("bad-record", "link 0 of unit 2 is no jump to where it leads"), {CHUNK, SAMPLE_code, 64, 1, 0x10}),
	SEALED("bad-link-site", "a jump beyond the code", BAD("bad-record", "jump of link 0 of unit 2 is out of bounds"), R(links, link, 1, site, 18)),
	SEALED("bad-cell", "a link that leads elsewhere at first", BAD("bad-record", "link 0 of unit 2 does not lead to its cold path at first"), {CHUNK, SAMPLE_cells, 8, 8, 0x50000045}),
	SEALED("bad-cell-count", "fewer cells than links", BAD("bad-record", "has 2 links, but 1 cells for them"), E(cells, length, 8), {CHUNK, SAMPLE_cells, 8, 8, 0}),
	SEALED("bad-cell-unowned", "a cell of no unit leads out of the code", BAD("bad-record", "cell 1 leads out of the code"), R(units, unit, 2, link_count, 0), {CHUNK, SAMPLE_cells, 8, 8, 0x50000060}),
	SEALED("bad-target-twice", "a target twice", BAD("bad-record", "target 0x401010 is there twice"), {CHUNK, SAMPLE_targets, 0, 8, 0x401010}),
	SEALED("bad-insn-length", "an instruction of 16 bytes", BAD("bad-record", "instruction 1 has 16 bytes, or bytes after its end"), R(insns, insn, 1, length, 16)),
	SEALED("bad-insn-empty", "an instruction without bytes, of no unit", BAD("bad-record", "instruction 1 has 0 bytes, or bytes after its end"), R(insns, insn, 1, length, 0), R(units, unit, 2, insn_count, 0)),
	SEALED("bad-insn-rest", "bytes after an instruction", BAD("bad-record", "instruction 0 has 5 bytes, or bytes after its end"), R(insns, insn, 0, bytes[14], 0x90)),
	SEALED("bad-verdict", "a verdict without meaning", BAD("bad-record", "page verdict 1 has wrong fields"), R(verdicts, verdict, 1, flags, 4)),
	SEALED("bad-verdict-order", "verdicts not ascending", BAD("bad-record", "page verdict 1 is out of order, or there twice"), R(verdicts, verdict, 1, image, 0)),
	SEALED("bad-profile", "a reserved field in use", BAD("bad-record", "profile record 0 has reserved fields in use"), R(profile, profile, 0, reserved, 1)),
	SEALED("bad-profile-order", "records not ascending", BAD("bad-record", "profile record 1 is out of order, or there twice"), R(profile, profile, 1, pc, 0x401ffc)),
	/* templates */
	SEALED("bad-template-flags", "neither lifted nor copied", BAD("bad-record", "template 1 has the flags 0x0"), R(templates, template, 1, flags, 0)),
	SEALED("bad-template-flags-both", "lifted and copied", BAD("bad-record", "template 1 has the flags 0x3"), R(templates, template, 1, flags, 3)),
	SEALED("bad-template-flags-unknown", "a flag without meaning", BAD("bad-record", "template 1 has the flags 0xa"), R(templates, template, 1, flags, 10)),
	SEALED("bad-template-length", "no guest bytes", BAD("bad-record", "template 1 has 2 instructions in 0 bytes at offset 32"), R(templates, template, 1, guest_length, 0)),
	SEALED("bad-template-offset", "begins behind its page", BAD("bad-record", "template 2 has 2 instructions in 3 bytes at offset 4096"), R(templates, template, 2, offset, 4096)),
	SEALED("bad-template-page-end", "reaches into the next page", BAD("bad-record", "template 2 has 2 instructions in 3 bytes at offset 4094"), R(templates, template, 2, offset, 4094)),
	SEALED("bad-template-instructions", "more instructions than bytes", BAD("bad-record", "template 1 has 4 instructions in 3 bytes at offset 32"), R(templates, template, 1, instruction_count, 4)),
	SEALED("bad-template-no-instructions", "no instructions", BAD("bad-record", "template 1 has 0 instructions in 3 bytes at offset 32"), R(templates, template, 1, instruction_count, 0)),
	SEALED("bad-template-mode", "a mode beyond its mask", BAD("bad-record", "template 1 has a mode that its mask does not cover"), R(templates, template, 1, mode_mask, 0xfffffffe)),
	SEALED("bad-template-no-code", "no code", BAD("bad-record", "template 1 has no code, or its second entry lies outside of it"), R(templates, template, 1, code_length, 0)),
	SEALED("bad-template-body", "second entry outside of the code", BAD("bad-record", "template 1 has no code, or its second entry lies outside of it"), R(templates, template, 1, body_offset, 32)),
	SEALED("bad-template-saved", "third entry outside of the code", BAD("bad-record", "template 1 has no code, or its second entry lies outside of it"), R(templates, template, 1, saved_offset, 32)),
	SEALED("bad-template-code-limit", "code beyond the limit", BAD("bad-record", "template 1 has 65537 bytes of code, 1 entries and 1 instruction records, which is too much"), R(templates, template, 1, code_length, 65537)),
	SEALED("bad-template-entry-limit", "more entries than instructions", BAD("bad-record", "template 1 has 32 bytes of code, 3 entries and 1 instruction records, which is too much"), R(templates, template, 1, entry_count, 3)),
	SEALED("bad-template-insn-limit", "more instruction records than instructions", BAD("bad-record", "template 1 has 32 bytes of code, 1 entries and 3 instruction records, which is too much"), R(templates, template, 1, insn_count, 3)),
	SEALED("bad-template-of-page", "of a page that is not there", BAD("bad-record", "template 1 is of page 2 or image 1, which does not exist"), R(templates, template, 1, page, 2)),
	SEALED("bad-template-image", "of an image that is not there", BAD("bad-record", "template 1 is of page 0 or image 2, which does not exist"), R(templates, template, 1, image, 3)),
	SEALED("bad-template-no-guest", "no word where its guest bytes are", BAD("bad-record", "template 1 has no guest bytes"), R(templates, template, 1, guest_offset, 0)),
	SEALED("bad-template-kind", "fix-ups without meaning", BAD("bad-record", "template 1 has fix-ups of unknown kind"), R(templates, template, 1, fixup_count[TCACHE_FIXUP_KINDS], 1)),
	SEALED("bad-template-code", "code beyond the end", BAD("out-of-range", "has no records 129 to 161 in chunk TCOD (it holds 160)"), R(templates, template, 2, code_offset, 129)),
	SEALED("bad-template-code-overflow", "code beyond the end, 32 bits wrap around", BAD("out-of-range", "has no records 4294967295 to 4294967327 in chunk TCOD (it holds 160)"), R(templates, template, 2, code_offset, UINT32_MAX)),
	SEALED("bad-template-pcs", "pc records beyond the end", BAD("out-of-range", "has no records 22 to 23 in chunk PCTB (it holds 22)"), R(templates, template, 2, pc_first, 22)),
	SEALED("bad-template-entries", "entries beyond the end", BAD("out-of-range", "has no records 13 to 14 in chunk ENTR (it holds 13)"), R(templates, template, 2, entry_first, 13)),
	SEALED("bad-template-insns", "instructions beyond the end", BAD("out-of-range", "has no records 4 to 5 in chunk INSN (it holds 4)"), R(templates, template, 2, insn_first, 4)),
	SEALED("bad-template-links", "links beyond the end", BAD("out-of-range", "has no records 0 to 2 in chunk TLNK (it holds 1)"), R(templates, template, 0, link_count, 2)),
	SEALED("bad-template-goals", "goals beyond the end", BAD("out-of-range", "has no records 1 to 2 in chunk GOAL (it holds 1)"), R(templates, template, 0, goal_first, 1)),
	SEALED("bad-template-fixups", "fix-ups beyond the end", BAD("out-of-range", "has no records 8 to 9 in chunk FIXU (it holds 8)"), R(templates, template, 2, fixup_first, 8)),
	SEALED("bad-template-fixup-count", "fix-ups of all kinds beyond the end", BAD("out-of-range", "has no records 6 to 65542 in chunk FIXU (it holds 8)"), R(templates, template, 1, fixup_count[TCACHE_FIXUP_READ], 65535)),
	SEALED("bad-template-guest", "guest bytes beyond the end", BAD("out-of-range", "has no records 51 to 54 in chunk GBYT (it holds 53)"), R(templates, template, 2, guest_offset, 52)),
	SEALED("bad-template-guest-missing", "guest bytes are in a chunk that is not understood", BAD("out-of-range", "has no records 20 to 34 in chunk GBYT (it holds 0)"), E(guest, schema, 2)),
	SEALED("bad-template-name", "a name that is not there", BAD("out-of-range", "has no string at 1000"), R(templates, template, 1, name, 1000)),
	SEALED("bad-template-order", "out of order", BAD("bad-record", "template 1 is out of order, or there twice"), R(templates, template, 0, offset, 0x21)),
	SEALED("bad-template-twice", "the same key twice", BAD("bad-record", "template 2 is out of order, or there twice"), R(templates, template, 2, page, 0), R(templates, template, 2, flags, TCACHE_UNIT_COPIED)),
	SEALED("bad-template-hash", "of other guest bytes than those translated", BAD("bad-record", "guest bytes of template 1 are not those of its key"), R(templates, template, 1, hash[0], 1)),
	SEALED("bad-template-first", "first bytes of others", BAD("bad-record", "guest bytes of template 1 are not those of its key"), R(templates, template, 1, first, 0xc3a20e)),
	SEALED("bad-template-pc", "a host offset beyond the template", BAD("bad-record", "pc record 0 of template 1 is out of bounds or out of order"), R(pcs, pc, 15, code, 32)),
	SEALED("bad-template-entry", "an entry beyond the guest bytes", BAD("bad-record", "entry 0 of template 1 is out of bounds"), R(entries, entry, 7, guest, 3)),
	SEALED("bad-template-entry-guest", "the beginning is entered for another instruction", BAD("bad-record", "entry 0 of template 1 leads to another instruction"), R(entries, entry, 7, guest, 2)),
	SEALED("bad-template-no-beginning", "no entry at the beginning", BAD("bad-record", "template 1 has no entry at its beginning"), R(entries, entry, 7, code, 5)),
	SEALED("bad-template-placement", "templates, but no word where instruction records belong", BAD("bad-record", "does not say where its code belongs"), E(placement, schema, 2), E(placement, flags, 0), E(units, schema, 2), E(units, flags, 0), E(code, schema, 2), E(code, flags, 0)),
	SEALED("bad-fixup-bounds", "a fix-up beyond the code", BAD("bad-record", "fix-up 0 of kind 5 of template 0 is out of bounds or overlaps"), {CHUNK, SAMPLE_fixups, 20, 4, 93}),
	SEALED("bad-fixup-bounds-wide", "eight bytes that reach beyond the code", BAD("bad-record", "fix-up 0 of kind 0 of template 0 is out of bounds or overlaps"), {CHUNK, SAMPLE_fixups, 0, 4, 89}),
	SEALED("bad-fixup-far", "a fix-up far beyond the code", BAD("bad-record", "fix-up 0 of kind 2 of template 0 is out of bounds or overlaps"), {CHUNK, SAMPLE_fixups, 8, 4, UINT32_MAX}),
	SEALED("bad-fixup-overlap", "a fix-up that overlaps another", BAD("bad-record", "fix-up 0 of kind 1 of template 0 is out of bounds or overlaps"), {CHUNK, SAMPLE_fixups, 4, 4, 9}),
	SEALED("bad-fixup-link", "code that leaves by a link that is not there", BAD("bad-record", "template 0 leaves by its link 1, which it does not have"), BYTE(CHUNK, template_code, 79, 1)),
	SEALED("bad-fixup-insn", "code with another template's instruction", BAD("bad-record", "template 1 names an instruction record that is not its own"), BYTE(CHUNK, template_code, 97, 0xc0)),
	SEALED("bad-fixup-insn-middle", "code with the middle of an instruction record", BAD("bad-record", "template 1 names an instruction record that is not its own"), BYTE(CHUNK, template_code, 97, 0x81)),
	SEALED("bad-fixup-insn-below", "code with an address before all instruction records", BAD("bad-record", "template 1 names an instruction record that is not its own"), BYTE(CHUNK, template_code, 98, 0x10)),
	SEALED("bad-template-link-bounds", "a link beyond the code", BAD("bad-record", "link 0 of template 0 is out of bounds or overlaps"), R(template_links, template_link, 0, patch, 93)),
	SEALED("bad-template-link-overlap", "a link that overlaps a fix-up", BAD("bad-record", "link 0 of template 0 is out of bounds or overlaps"), R(template_links, template_link, 0, patch, 24)),
	SEALED("bad-template-link-target", "a link that leaves the page", BAD("bad-record", "link 0 of template 0 leaves the page or has unknown flags"), R(template_links, template_link, 0, target, 4096)),
	SEALED("bad-template-link-flags", "a flag without meaning", BAD("bad-record", "link 0 of template 0 leaves the page or has unknown flags"), R(template_links, template_link, 0, flags, 4)),
	SEALED("bad-goal-number", "a number beyond the code", BAD("bad-record", "goal 0 of template 0 is out of bounds or overlaps"), R(goals, goal, 0, number, 93)),
	SEALED("bad-goal-entry", "a displacement far beyond the code", BAD("bad-record", "goal 0 of template 0 is out of bounds or overlaps"), R(goals, goal, 0, entry, UINT32_MAX)),
	SEALED("bad-goal-overlap", "number and displacement overlap", BAD("bad-record", "goal 0 of template 0 is out of bounds or overlaps"), R(goals, goal, 0, entry, 63)),
	SEALED("bad-goal-flags", "a flag without meaning", BAD("bad-record", "goal 0 of template 0 has unknown flags or reserved fields"), R(goals, goal, 0, flags, 2)),
	SEALED("bad-goal-reserved", "a reserved field in use", BAD("bad-record", "goal 0 of template 0 has unknown flags or reserved fields"), R(goals, goal, 0, reserved, 1)),
	SEALED("bad-page-order", "pages out of order", BAD("bad-record", "page 1 is out of order, or there twice"), R(pages, page, 0, hash[1], 3)),
	SEALED("bad-page-twice", "the same page twice", BAD("bad-record", "page 1 is out of order, or there twice"), R(pages, page, 1, hash[0], 9), R(pages, page, 1, hash[1], 1)),
	SEALED("bad-page-first", "templates of two pages overlap", BAD("bad-record", "templates of page 1 are not where those of the page before end"), R(pages, page, 1, first, 1)),
	SEALED("bad-page-count", "templates beyond the end", BAD("out-of-range", "has no records 2 to 4 in chunk TMPL (it holds 3)"), R(pages, page, 1, count, 2)),
	SEALED("bad-page-missing", "a template in no page", BAD("bad-record", "has 3 templates, but 2 in pages"), R(pages, page, 1, count, 0)),
	SEALED("bad-page-other", "a template that names another page", BAD("bad-record", "template 2 is not of page 0, which holds it"), R(pages, page, 0, count, 3)),
	SEALED("bad-content-cold", "one that was not executed, by content", BAD("bad-record", "template 1 by content, 2, was not executed"), {CHUNK, SAMPLE_by_content, 4, 4, 2}),
	SEALED("bad-content-order", "executed templates out of order", BAD("bad-record", "template 1 by content, 0, is out of order, or there twice"), {CHUNK, SAMPLE_by_content, 0, 4, 1}, {CHUNK, SAMPLE_by_content, 4, 4, 0}),
	SEALED("bad-content-twice", "the same one twice", BAD("bad-record", "template 1 by content, 0, is out of order, or there twice"), {CHUNK, SAMPLE_by_content, 4, 4, 0}),
	SEALED("bad-content-number", "a template that is not there", BAD("out-of-range", "has no records 3 to 4 in chunk TMPL (it holds 3)"), {CHUNK, SAMPLE_by_content, 4, 4, 3}),
	SEALED("bad-content-count", "an executed template that is not found by content", BAD("bad-record", "has 2 executed templates, 1 of them by content"), E(by_content, length, 4), {CHUNK, SAMPLE_by_content, 4, 4, 0}),
	/* kernel modules */
	SEALED("bad-module-flags", "neither lifted nor copied", BAD("bad-record", "module unit 1 has the flags 0x4"), R(module_units, module_unit, 1, flags, 4)),
	SEALED("bad-module-lifted", "lifted, which none is", BAD("bad-record", "module unit 1 has the flags 0x1"), R(module_units, module_unit, 1, flags, 1)),
	SEALED("bad-module-length", "no guest bytes", BAD("bad-record", "module unit 1 has 2 instructions in 0 bytes at offset 96"), R(module_units, module_unit, 1, guest_length, 0)),
	SEALED("bad-module-page-end", "reaches into the next page", BAD("bad-record", "module unit 2 has 2 instructions in 3 bytes at offset 4094"), R(module_units, module_unit, 2, offset, 4094)),
	SEALED("bad-module-instructions", "more instructions than bytes", BAD("bad-record", "module unit 1 has 4 instructions in 3 bytes at offset 96"), R(module_units, module_unit, 1, instruction_count, 4)),
	SEALED("bad-module-mode", "a mode beyond its mask", BAD("bad-record", "module unit 1 has a mode that its mask does not cover"), R(module_units, module_unit, 1, mode_mask, 255)),
	SEALED("bad-module-code-short", "code with no room for a jump", BAD("bad-record", "module unit 1 has 4 bytes of code"), R(module_units, module_unit, 1, code_length, 4)),
	SEALED("bad-module-code-limit", "code beyond the limit", BAD("bad-record", "module unit 1 has 65537 bytes of code"), R(module_units, module_unit, 1, code_length, 65537)),
	SEALED("bad-module-body", "an entry with no room for a jump", BAD("bad-record", "an entry of module unit 1 lies outside of its code"), R(module_units, module_unit, 1, body_offset, 10)),
	SEALED("bad-module-saved", "an entry with no room for a jump", BAD("bad-record", "an entry of module unit 1 lies outside of its code"), R(module_units, module_unit, 1, saved_offset, 10)),
	SEALED("bad-module-stale", "a way out that lies outside of the code", BAD("bad-record", "an entry of module unit 1 lies outside of its code"), R(module_units, module_unit, 1, stale_offset, 14)),
	SEALED("bad-module-stale-saved", "a way out that lies outside of the code", BAD("bad-record", "an entry of module unit 1 lies outside of its code"), R(module_units, module_unit, 1, stale_saved_offset, 14)),
	SEALED("bad-module-entry-limit", "more entries than instructions", BAD("bad-record", "module unit 1 has 3 entries and 1 instruction records, which is too much"), R(module_units, module_unit, 1, entry_count, 3)),
	SEALED("bad-module-insn-limit", "more instruction records than instructions", BAD("bad-record", "module unit 1 has 1 entries and 3 instruction records, which is too much"), R(module_units, module_unit, 1, insn_count, 3)),
	SEALED("bad-module-fixup-limit", "more fix-ups than its code has room for, beyond landings", BAD("bad-record", "module unit 1 has 6 fix-ups, which is too much"), R(module_units, module_unit, 1, fixup_count, 6)),
	SEALED("bad-module-landing-limit", "more landings than instructions", BAD("bad-record", "module unit 0 has 4 landings, which is too much"), {CHUNK, SAMPLE_module_fixups, 40, 8, 43 | TCACHE_MODULE_LANDING << 16}, {CHUNK, SAMPLE_module_fixups, 48, 8, 51 | TCACHE_MODULE_LANDING << 16}, {CHUNK, SAMPLE_module_fixups, 56, 8, 58 | TCACHE_MODULE_LANDING << 16}),
	SEALED("bad-module-of-page", "of a page that is not there", BAD("bad-record", "module unit 2 is of page 2, which does not exist"), R(module_units, module_unit, 2, page, 2)),
	SEALED("bad-module-no-guest", "no word where its guest bytes are", BAD("bad-record", "module unit 1 has no guest bytes"), R(module_units, module_unit, 1, guest_offset, 0)),
	SEALED("bad-module-code", "code beyond the end", BAD("out-of-range", "has no records 131 to 145 in chunk MCOD (it holds 144)"), R(module_units, module_unit, 2, code_offset, 131)),
	SEALED("bad-module-pcs", "pc records beyond the end", BAD("out-of-range", "has no records 22 to 23 in chunk PCTB (it holds 22)"), R(module_units, module_unit, 2, pc_first, 22)),
	SEALED("bad-module-entries", "entries beyond the end", BAD("out-of-range", "has no records 13 to 14 in chunk ENTR (it holds 13)"), R(module_units, module_unit, 2, entry_first, 13)),
	SEALED("bad-module-insns", "instructions beyond the end", BAD("out-of-range", "has no records 2 to 3 in chunk MINS (it holds 2)"), R(module_units, module_unit, 2, insn_first, 2)),
	SEALED("bad-module-fixups", "fix-ups beyond the end", BAD("out-of-range", "has no records 14 to 15 in chunk MFIX (it holds 14)"), R(module_units, module_unit, 2, fixup_first, 14)),
	SEALED("bad-module-guest", "guest bytes beyond the end", BAD("out-of-range", "has no records 51 to 54 in chunk GBYT (it holds 53)"), R(module_units, module_unit, 2, guest_offset, 52)),
	SEALED("bad-module-order", "out of order", BAD("bad-record", "module unit 1 is out of order, or there twice"), R(module_units, module_unit, 0, mode_mask, 4294967295), R(module_units, module_unit, 1, offset, 61)),
	SEALED("bad-module-twice", "the same key twice", BAD("bad-record", "module unit 2 is out of order, or there twice"), R(module_units, module_unit, 2, page, 0)),
	SEALED("bad-module-hash", "of other guest bytes than those translated", BAD("bad-record", "guest bytes of module unit 1 do not have its hash"), R(module_units, module_unit, 1, hash[0], 1)),
	SEALED("bad-module-unfilled", "a hole with something else in it", BAD("bad-record", "a hole of module unit 1 is not filled"), {CHUNK, SAMPLE_module_holes, 2, 2, 0x60}),
	SEALED("bad-module-half-hole", "a hole that is not all within its unit", BAD("bad-record", "a hole of module unit 1 is not filled"), {CHUNK, SAMPLE_module_holes, 2, 2, 0x62}),
	SEALED("bad-module-pc", "a host offset beyond the unit", BAD("bad-record", "pc record 0 of module unit 1 is out of bounds or out of order"), R(pcs, pc, 20, code, 14)),
	SEALED("bad-module-entry", "an entry beyond the guest bytes", BAD("bad-record", "entry 0 of module unit 1 is out of bounds"), R(entries, entry, 11, guest, 3)),
	SEALED("bad-module-entry-end", "an entry with no room for a jump", BAD("bad-record", "entry 1 of module unit 0 is at the end of its code, or wrong"), R(entries, entry, 10, code, 100)),
	SEALED("bad-module-entry-guest", "the beginning is entered for another instruction", BAD("bad-record", "entry 0 of module unit 1 is at the end of its code, or wrong"), R(entries, entry, 11, guest, 2)),
	SEALED("bad-module-no-beginning", "no entry at the beginning", BAD("bad-record", "module unit 1 has no entry at its beginning"), R(entries, entry, 11, code, 5)),
	SEALED("bad-module-insn", "an instruction without bytes", BAD("bad-record", "instruction 1 has 0 bytes, or bytes after its end"), R(module_insns, insn, 1, length, 0)),
	SEALED("bad-module-fixup-kind", "a fix-up without meaning", BAD("bad-record", "fix-up 0 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 0, kind, 16)),
	SEALED("bad-module-fixup-from", "made of something unknown", BAD("bad-record", "fix-up 0 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 0, from, 4)),
	SEALED("bad-module-fixup-field", "made of a field beyond the guest bytes", BAD("bad-record", "fix-up 1 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 1, value, 10)),
	SEALED("bad-module-fixup-behind", "made of a field whose instruction ends beyond the guest bytes", BAD("bad-record", "fix-up 1 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 1, value, 8 | 2 << 16)),
	SEALED("bad-module-fixup-wide", "eight bytes made of four", BAD("bad-record", "fix-up 1 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 1, kind, TCACHE_MODULE_WIDE)),
	SEALED("bad-module-fixup-narrow", "four bytes made of eight", BAD("bad-record", "fix-up 1 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 1, from, TCACHE_MODULE_FROM_WIDE), R(module_fixups, module_fixup, 1, value, 5)),
	SEALED("bad-module-fixup-link", "the number of a jump that is not there", BAD("bad-record", "fix-up 8 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 8, value, 1)),
	SEALED("bad-module-fixup-insn", "the address of an instruction record that is not there", BAD("bad-record", "fix-up 0 of module unit 1 is made of nothing"), R(module_fixups, module_fixup, 12, value, 1)),
	SEALED("bad-module-jump", "a jump that leaves the page", BAD("bad-record", "fix-up 10 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 10, value, 4096)),
	SEALED("bad-module-landing-value", "a landing with a value", BAD("bad-record", "fix-up 11 of module unit 0 is made of nothing"), R(module_fixups, module_fixup, 11, value, 1)),
	SEALED("bad-module-landing", "a landing with no room for a jump", BAD("bad-record", "fix-up 11 of module unit 0 is out of bounds or overlaps"), R(module_fixups, module_fixup, 11, at, 100)),
	SEALED("bad-module-fixup-bounds", "a fix-up beyond the code", BAD("bad-record", "fix-up 0 of module unit 0 is out of bounds or overlaps"), R(module_fixups, module_fixup, 0, at, 101)),
	SEALED("bad-module-fixup-overlap", "a fix-up that overlaps another", BAD("bad-record", "fix-up 1 of module unit 0 is out of bounds or overlaps"), R(module_fixups, module_fixup, 1, at, 6)),
	SEALED("bad-module-jump-overlap", "a jump that overlaps a fix-up", BAD("bad-record", "fix-up 10 of module unit 0 is out of bounds or overlaps"), R(module_fixups, module_fixup, 10, at, 60)),
	SEALED("bad-module-hole-order", "holes out of order", BAD("bad-record", "hole 1 of module page 0 is out of order, or has unknown bits"), {CHUNK, SAMPLE_module_holes, 2, 2, 0x40}),
	SEALED("bad-module-hole-overlap", "holes that overlap", BAD("bad-record", "hole 1 of module page 0 is out of order, or has unknown bits"), {CHUNK, SAMPLE_module_holes, 2, 2, 0x44}),
	SEALED("bad-module-hole-bits", "a hole with unknown bits", BAD("bad-record", "hole 0 of module page 1 is out of order, or has unknown bits"), {CHUNK, SAMPLE_module_holes, 4, 2, 0x9100}),
	SEALED("bad-module-hole-end", "a hole that leaves its page", BAD("bad-record", "the last hole of module page 1 leaves it"), {CHUNK, SAMPLE_module_holes, 4, 2, 0x8ff9}),
	SEALED("bad-module-holes", "holes beyond the end", BAD("out-of-range", "has no records 3 to 4 in chunk MHOL (it holds 3)"), R(module_pages, module_page, 1, hole_first, 3)),
	SEALED("bad-module-pages-order", "pages out of order", BAD("bad-record", "module page 1 is out of order, or there twice"), R(module_pages, module_page, 0, hash[1], 3)),
	SEALED("bad-module-page-first", "units of two pages overlap", BAD("bad-record", "units of module page 1 are not where those before end"), R(module_pages, module_page, 1, first, 1)),
	SEALED("bad-module-page-count", "units beyond the end", BAD("out-of-range", "has no records 2 to 4 in chunk MUNI (it holds 3)"), R(module_pages, module_page, 1, count, 2)),
	SEALED("bad-module-page-missing", "a unit in no page", BAD("bad-record", "has 3 module units, but 2 in pages"), R(module_pages, module_page, 1, count, 0)),
	SEALED("bad-module-page-other", "a unit that names another page", BAD("bad-record", "module unit 2 is not of page 0, which holds it"), R(module_pages, module_page, 0, count, 3)),
	SEALED("bad-module-key-count", "a unit that is not found", BAD("bad-record", "has 3 module units, and 2 keys of them"), E(module_keys, length, 24), {CHUNK, SAMPLE_module_keys, 24, 8, 0}, {CHUNK, SAMPLE_module_keys, 32, 4, 0}),
	SEALED("bad-module-key", "found by something else", BAD("bad-record", "module key 0 is not that of unit 0"), R(module_keys, module_key, 0, hash, 1)),
	SEALED("bad-module-key-mask", "found by bytes in a hole", BAD("bad-record", "module key 0 is not that of unit 0"), R(module_keys, module_key, 0, mask, 4323)),
	SEALED("bad-module-key-twice", "the same key twice", BAD("bad-record", "module key 2 is out of order, or there twice"), R(module_keys, module_key, 2, unit, 1)),
	SEALED("bad-module-key-unit", "the key of a unit that is not there", BAD("out-of-range", "has no records 3 to 4 in chunk MUNI (it holds 3)"), R(module_keys, module_key, 2, unit, 3)),
	SEALED("bad-executed-length", "no code was executed", BAD("bad-record", "executed code 2 has 0 bytes"), R(executed, executed, 2, guest_length, 0)),
	SEALED("bad-executed-long", "longer than anything", BAD("bad-record", "executed code 2 has 4112 bytes"), R(executed, executed, 2, guest_length, 4112)),
	SEALED("bad-executed-page", "in a page that is not there", BAD("bad-record", "executed code 2 was in page 1, which does not exist"), R(executed, executed, 2, page, 2)),
	SEALED("bad-executed-bytes", "guest bytes beyond the end", BAD("out-of-range", "has no records 40 to 54 in chunk GBYT (it holds 53)"), R(executed, executed, 2, bytes_first, 40)),
	SEALED("bad-executed-counts", "counts beyond the end", BAD("out-of-range", "has no records 4 to 5 in chunk CNTS (it holds 4)"), R(executed, executed, 2, count_first, 4)),
	SEALED("bad-strings-first", "no empty string at the beginning", BAD("bad-record", "strings do not begin and end with a zero byte"), BYTE(CHUNK, strings, 0, 'x')),
	SEALED("bad-strings-last", "the last string does not end", BAD("bad-record", "strings do not begin and end with a zero byte"), BYTE(CHUNK, strings, 47, 'x')),
};
/* clang-format on */

static void apply(struct bytes *bytes, const struct edit *edit)
{
	uint8_t *at = bytes->data;
	struct bytes other;
	size_t size;

	switch (edit->place) {
	case NOWHERE:
		return;
	case FILE_END:
	case FILE_SIZE:
		size = (size_t)edit->value + (edit->place == FILE_END ? bytes->size : 0);
		other = bytes_new(size);
		memcpy(other.data, bytes->data, size < bytes->size ? size : bytes->size);
		free(bytes->data);
		*bytes = other;
		return;
	case HEADER:
		break;
	case ENTRY:
		at = (uint8_t *)&bytes_toc(bytes)[edit->chunk];
		break;
	case CHUNK:
		at += bytes_toc(bytes)[edit->chunk].offset;
		break;
	case FOOTER:
		at = (uint8_t *)bytes_footer(bytes);
		break;
	}
	memcpy(at + edit->offset, &edit->value, edit->size);
}

/* Writes the text, or compares it with the file that is there. */
static int emit(const char *directory, bool check, const char *name, const char *comment, const struct golden *golden,
		const struct bytes *base)
{
	char path[4096];
	char *text = NULL;
	size_t size = 0;
	FILE *memory = open_memstream(&text, &size), *file;
	int status = 0;

	if (!memory)
		abort();
	golden_print(memory, comment, golden, base);
	fclose(memory);
	snprintf(path, sizeof(path), "%s/%s.txt", directory, name);
	if (check) {
		struct bytes have = {NULL, 0};

		if (access(path, R_OK) == 0)
			have = bytes_read(path);
		if (!have.data || have.size != size || memcmp(have.data, text, size)) {
			fprintf(stderr, "%s: is not what make_golden makes\n", path);
			status = 1;
		}
		free(have.data);
	} else {
		file = fopen(path, "w");
		if (!file || fwrite(text, 1, size, file) != size || fclose(file)) {
			perror(path);
			status = 1;
		}
	}
	free(text);
	return status;
}

static struct bytes make_sample(bool is_signed)
{
	char path[] = "/tmp/make-golden-XXXXXX", file[64], error[512];
	static struct sample sample;
	struct bytes bytes;

	sample_fill(&sample);
	if (!mkdtemp(path)) {
		perror(path);
		exit(1);
	}
	snprintf(file, sizeof(file), "%s/x.tcache", path);
	if (sample_write(file, &sample, is_signed, error, sizeof(error))) {
		fprintf(stderr, "make_golden: %s\n", error);
		exit(1);
	}
	bytes = bytes_read(file);
	unlink(file);
	rmdir(path);
	return bytes;
}

static void edit_example(struct bytes *bytes, const struct example *example, size_t base_size)
{
	for (size_t i = 0; i < sizeof(example->edit) / sizeof(example->edit[0]); i++)
		apply(bytes, &example->edit[i]);
	if (!example->unsealed && bytes->size == base_size)
		bytes_seal(bytes);
}

static int make_example(const char *directory, bool check, const struct example *example, const struct bytes *base)
{
	struct golden golden = {.bytes = bytes_copy(base)};
	int status;

	snprintf(golden.expect, sizeof(golden.expect), "%s", example->expect);
	snprintf(golden.like, sizeof(golden.like), "%s", example->like_signed ? "good-signed.txt" : "good-all.txt");
	edit_example(&golden.bytes, example, base->size);
	status = emit(directory, check, example->name, example->comment, &golden, base);
	free(golden.bytes.data);
	return status;
}

/* The bytes of an example; none if there is no such one. */
static struct bytes find_example(const char *name)
{
	struct bytes bytes = {NULL, 0};

	if (!strcmp(name, "good-all") || !strcmp(name, "good-signed"))
		return make_sample(!strcmp(name, "good-signed"));
	for (size_t i = 0; !bytes.data && i < sizeof(examples) / sizeof(examples[0]); i++) {
		if (strcmp(examples[i].name, name) != 0)
			continue;
		bytes = make_sample(examples[i].like_signed);
		edit_example(&bytes, &examples[i], bytes.size);
	}
	return bytes;
}

/* Writes an example as a file that avant can read. */
static int write_cache(const char *name, const char *path)
{
	struct bytes bytes = find_example(name);
	FILE *file;
	int status = 0;

	if (!bytes.data) {
		fprintf(stderr, "make_golden: there is no example '%s'\n", name);
		return 1;
	}
	file = fopen(path, "wb");
	/* whatever the umask is: others must not be able to write it */
	if (!file || fchmod(fileno(file), 0644) || fwrite(bytes.data, 1, bytes.size, file) != bytes.size ||
	    fclose(file)) {
		perror(path);
		status = 1;
	}
	free(bytes.data);
	return status;
}

int main(int argc, char **argv)
{
	bool check = argc == 3 && !strcmp(argv[1], "--check");
	const char *directory = argv[argc - 1];
	struct golden all = {.expect = "ok"}, is_signed = {.expect = "ok"};
	int status = 0;

	if (argc == 4 && !strcmp(argv[1], "--cache"))
		return write_cache(argv[2], argv[3]);
	if (argc != 2 && !check) {
		fprintf(stderr, "usage: make_golden [--check] DIRECTORY | --cache NAME FILE\n");
		return 2;
	}
	all.bytes = make_sample(false);
	is_signed.bytes = make_sample(true);
	status |= emit(directory, check, "good-all",
		       "two images, four units, three templates, three units of modules, every chunk", &all, NULL);
	status |= emit(directory, check, "good-signed", "the same, signed with the test key", &is_signed, NULL);
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
		status |= make_example(directory, check, &examples[i],
				       examples[i].like_signed ? &is_signed.bytes : &all.bytes);
	free(all.bytes.data);
	free(is_signed.bytes.data);
	return status;
}
