#include "translate_reuse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void open_partial(struct sources *sources, const struct build *build)
{
	struct err why = ERR_INIT;
	struct stat status;

	if (lstat(sources->partial_path, &status) < 0 && errno == ENOENT)
		return;
	sources->partial = reuse_open(sources->partial_path, build, &why);
	if (!sources->partial)
		warn("the interrupted run is not gone on with: %s", why.text);
}

int sources_open(struct sources *sources, const char *given, const char *output, const struct build *build,
		 struct err *err)
{
	*sources = (struct sources){0};
	if (asprintf(&sources->partial_path, "%s.partial", output) < 0) {
		sources->partial_path = NULL;
		return err_set(err, "out of memory");
	}
	if (given) {
		sources->given = reuse_open(given, build, err);
		if (!sources->given)
			return -1;
	}
	open_partial(sources, build);
	return 0;
}

void sources_close(struct sources *sources)
{
	reuse_close(sources->given);
	reuse_close(sources->partial);
	free(sources->partial_path);
}

/* How much work it saves: above all what LLVM has done. */
static bool has_more(const struct reuse *a, const struct reuse *b)
{
	size_t lifted_a = reuse_count(a, REUSE_LIFTED), lifted_b = reuse_count(b, REUSE_LIFTED);

	if (lifted_a != lifted_b)
		return lifted_a > lifted_b;
	return reuse_count(a, REUSE_COPIED) > reuse_count(b, REUSE_COPIED);
}

int sources_match(struct sources *sources, const struct plan *plan, struct err *err)
{
	if ((sources->given && reuse_match(sources->given, plan, err) < 0) ||
	    (sources->partial && reuse_match(sources->partial, plan, err) < 0))
		return -1;
	/* what was interrupted had taken over what it was given: if both are equal, either will do */
	sources->used = sources->partial;
	if (!sources->partial || (sources->given && has_more(sources->given, sources->partial)))
		sources->used = sources->given;
	if (sources->used && sources->used == sources->partial)
		fprintf(stderr, "avant translate: goes on from '%s'\n", sources->partial_path);
	return 0;
}

void sources_done(const struct sources *sources)
{
	if (sources->partial && unlink(sources->partial_path) < 0)
		warn("'%s' cannot be removed: %s", sources->partial_path, strerror(errno));
}
