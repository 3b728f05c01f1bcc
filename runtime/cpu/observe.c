#include "cpu/observe.h"

#include "mem/mem.h"

#define BREAKPOINTS 4u

/* DR7.R/W. */
enum { ON_EXECUTION, ON_WRITE, ON_PORT, ON_ACCESS };

static bool enabled(const struct vcpu *v, unsigned n)
{
	return v->dr[7] >> 2 * n & 3;
}

static unsigned kind(const struct vcpu *v, unsigned n)
{
	return v->dr[7] >> (16 + 4 * n) & 3;
}

/* Does [at, at + size) touch what breakpoint n names? The address's bits below the length do not count. */
static bool touches(const struct vcpu *v, unsigned n, u64 at, unsigned size)
{
	static const u8 lengths[] = {1, 2, 8, 4}; /* DR7.LEN */
	const unsigned length = lengths[v->dr[7] >> (18 + 4 * n) & 3];
	const u64 first = v->dr[n] & ~(u64)(length - 1);

	return at - first < length || first - at < size;
}

u64 observe_breakpoints_at(const struct vcpu *v, u64 pc)
{
	u64 found = 0;

	for (unsigned n = 0; n < BREAKPOINTS; n++)
		if (enabled(v, n) && kind(v, n) == ON_EXECUTION && v->dr[n] == pc)
			found |= BIT(n);
	return found;
}

static void observe_data(struct vcpu *v, u64 gva, unsigned length, unsigned access)
{
	for (unsigned n = 0; n < BREAKPOINTS; n++)
		if (enabled(v, n) && (kind(v, n) == ON_ACCESS || (kind(v, n) == ON_WRITE && (access & ACCESS_WRITE))) &&
		    touches(v, n, gva, length))
			v->observed |= BIT(n);
}

void observe_port(struct vcpu *v, u16 port, unsigned size)
{
	if (!(v->cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < BREAKPOINTS; n++)
		if (enabled(v, n) && kind(v, n) == ON_PORT && touches(v, n, port, size))
			v->observed |= BIT(n);
}

/* What an operand of so many bytes has to be aligned to (SDM vol. 3A, table 6-7). */
static unsigned alignment(unsigned length)
{
	switch (length) {
	case 1:
	case 2:
	case 4:
	case 8:
	case 16:
		return length;
	case 10: /* x87's long format */
		return 8;
	case 32:
		return 16;
	default: /* environments, areas: pieces */
		return length % 4 ? 2 : 4;
	}
}

enum exec observe_alignment(struct vcpu *v, u64 gva, unsigned length)
{
	if (!(v->observe & OBSERVE_ALIGNMENT) || !(gva & (alignment(length) - 1)) || !vcpu_canonical(gva) ||
	    !vcpu_canonical(gva + length - 1))
		return EXEC_OK;
	return vcpu_raise_error(v, VEC_AC, 0);
}

enum exec observe_access(struct vcpu *v, u64 gva, unsigned length, unsigned access)
{
	if (access & (ACCESS_SYSTEM | ACCESS_USER | ACCESS_EXEC))
		return EXEC_OK;
	/* two pointers in one access are not an operand of 16 bytes */
	if (observe_alignment(v, gva, length > 10 && !(length % 8) ? 8 : length) != EXEC_OK)
		return EXEC_FAULT;
	if (v->observe & OBSERVE_DATA)
		observe_data(v, gva, length, access);
	return EXEC_OK;
}
