/*
 * Gives every template of a cache many links that its code does not have, before those that it has:
 *	forge_links FROM TO COUNT
 * Everything that a reader checks is right.
 */
#include "sample.h"

struct forged {
	struct tcache *from;
	struct tcache_template *templates;
	uint32_t count, extra;
	uint8_t *code;
	struct tcache_template_link *links;
	uint32_t code_size, link_count;
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "forge_links: %s\n", what);
	exit(1);
}

/* Appends a template's code with the displacements of the new links behind it, and all links. */
static void forge(struct forged *f, struct tcache_template *t)
{
	struct tcache_template_view view;
	uint32_t fixup = 0;

	must(!tcache_template_view(f->from, (uint32_t)(t - f->templates), &view), tcache_error(f->from));
	memcpy(f->code + f->code_size, view.code, t->code_length);
	for (unsigned kind = 0; kind < TCACHE_FIXUP_LINK; kind++)
		fixup += t->fixup_count[kind];
	for (uint32_t i = 0; i < t->fixup_count[TCACHE_FIXUP_LINK]; i++) {
		uint8_t *at = f->code + f->code_size + view.fixups[fixup + i];
		uint32_t number;

		memcpy(&number, at, sizeof(number));
		number += f->extra;
		memcpy(at, &number, sizeof(number));
	}
	for (uint32_t i = 0; i < f->extra; i++)
		f->links[f->link_count + i] = (struct tcache_template_link){.patch = t->code_length + 4 * i};
	memcpy(f->links + f->link_count + f->extra, view.links, t->link_count * sizeof(*view.links));
	t->link_first = f->link_count;
	t->link_count += f->extra;
	t->code_offset = f->code_size;
	t->code_length += 4 * f->extra;
	f->link_count += t->link_count;
	f->code_size += t->code_length;
}

int main(int argc, char **argv)
{
	struct tcache_write_options options = {0};
	struct forged f = {0};
	struct tcache_writer *writer;
	char error[512];

	must(argc == 4, "usage: forge_links FROM TO COUNT");
	must(!tcache_open(argv[1], TCACHE_TRUST, &f.from, error, sizeof(error)), error);
	f.count = (uint32_t)tcache_templates_count(f.from);
	f.extra = (uint32_t)atoi(argv[3]);
	f.templates = calloc(f.count + 1, sizeof(*f.templates));
	f.code = calloc(1, tcache_template_code_count(f.from) + f.count * 4ULL * f.extra + 1);
	f.links = calloc(tcache_template_links_count(f.from) + (uint64_t)f.count * f.extra + 1, sizeof(*f.links));
	must(f.count && f.templates && f.code && f.links, "no templates, or no memory");
	memcpy(f.templates, tcache_templates(f.from, 0, f.count), f.count * sizeof(*f.templates));
	for (uint32_t i = 0; i < f.count; i++)
		forge(&f, &f.templates[i]);
	options.fingerprint = tcache_header(f.from)->fingerprint;
	must(!tcache_writer_create(argv[2], &options, &writer, error, sizeof(error)), error);
	for (uint32_t i = 0; i < tcache_chunk_count(f.from); i++) {
		const uint32_t type = tcache_toc(f.from, i)->type;
		uint64_t length;
		const void *data = tcache_chunk(f.from, i, &length);

		if (type == TCACHE_TYPE_templates) {
			data = f.templates;
		} else if (type == TCACHE_TYPE_template_code) {
			data = f.code;
			length = f.code_size;
		} else if (type == TCACHE_TYPE_template_links) {
			data = f.links;
			length = f.link_count * sizeof(*f.links);
		}
		tcache_writer_chunk(writer, type, data, length);
	}
	must(!tcache_writer_finish(writer, error, sizeof(error)), error);
	tcache_close(f.from);
	free(f.templates);
	free(f.code);
	free(f.links);
	return 0;
}
