#include "p9/fid.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "p9/protocol.h"

struct p9_fid *p9_fid_find(const struct p9_table *fids, u32 number)
{
	struct p9_link *link = p9_table_first(fids, p9_hash(number));

	return link ? P9_TABLE_OF(link, struct p9_fid, link) : NULL; /* the hash is one to one */
}

int p9_fid_create(struct p9_table *fids, u32 number, struct p9_node *node, struct p9_fid **fid)
{
	struct p9_fid *created;

	if (number == P9_NO_FID || p9_fid_find(fids, number))
		return -EBADF;
	if (fids->count >= P9_FIDS_MAX)
		return -ENFILE;
	created = calloc(1, sizeof(*created));
	if (!created)
		return -ENOMEM;
	created->number = number;
	created->node = p9_node_get(node);
	created->fd = -1;
	p9_table_insert(fids, &created->link, p9_hash(number));
	if (fid)
		*fid = created;
	return 0;
}

void p9_fid_release(struct p9_nodes *nodes, struct p9_fid *fid)
{
	if (fid->fd >= 0) {
		close(fid->fd);
		p9_nodes_give_descriptor(nodes);
	}
	p9_node_put(nodes, fid->node);
	free(fid->xattr);
	free(fid);
}
