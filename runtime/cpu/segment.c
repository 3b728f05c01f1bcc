#include "cpu/segment.h"

#include "cpu/system.h"
#include "vm.h"

bool descriptor_locate(const struct vcpu *v, u16 selector, unsigned size, u64 *address)
{
	const struct segment *ldt = &v->seg[SEG_LDTR];
	const u32 offset = selector & ~7u;

	if (selector & SELECTOR_LDT) {
		if (!(ldt->attr & SEG_ATTR_P) || offset + size - 1 > ldt->limit)
			return false;
		*address = ldt->base + offset;
	} else {
		if (offset + size - 1 > v->gdtr.limit)
			return false;
		*address = v->gdtr.base + offset;
	}
	return true;
}

enum exec descriptor_read(struct vcpu *v, u16 selector, u8 vector, u32 ext, u64 *descriptor)
{
	u64 address;

	if (!descriptor_locate(v, selector, 8, &address))
		return vcpu_raise_error(v, vector, (selector & SELECTOR_INDEX) | ext);
	return mem_read(v, address, descriptor, 8, ACCESS_READ | ACCESS_SYSTEM);
}

enum exec descriptor_mark(struct vcpu *v, u16 selector, u64 *descriptor, u8 bits)
{
	u64 address;
	u8 type;

	if (LIKELY((descriptor_attr(*descriptor) & bits) == bits))
		return EXEC_OK;
	if (!descriptor_locate(v, selector, 8, &address))
		return vcpu_raise_error(v, VEC_GP, selector & SELECTOR_INDEX);
	type = (u8)(descriptor_attr(*descriptor) | bits);
	if (mem_write(v, address + 5, &type, 1, ACCESS_WRITE | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	*descriptor |= (u64)bits << 40;
	return EXEC_OK;
}

void segment_set(struct segment *segment, u16 selector, u64 descriptor)
{
	segment->selector = selector;
	segment->attr = descriptor_attr(descriptor);
	segment->limit = descriptor_limit(descriptor);
	segment->base = descriptor_base(descriptor);
}

static enum exec load_null(struct vcpu *v, unsigned seg, u16 selector)
{
	if (seg == SEG_SS && (v->cpl == 3 || (selector & SELECTOR_RPL) != v->cpl))
		return raise_gp0(v);
	v->seg[seg].selector = selector;
	v->seg[seg].attr = (u16)(seg == SEG_SS ? v->cpl << SEG_ATTR_DPL_SHIFT : 0);
	v->seg[seg].limit = 0;
	v->seg[seg].base = 0;
	return EXEC_OK;
}

/* May a segment with this descriptor be loaded into `seg` through this selector? */
static bool may_load(const struct vcpu *v, unsigned seg, u16 selector, u16 attr)
{
	const unsigned rpl = selector & SELECTOR_RPL, dpl = attr_dpl(attr);

	if (seg == SEG_SS)
		return rpl == v->cpl && attr_is_writable_data(attr) && dpl == v->cpl;
	if (!(attr & SEG_ATTR_S) || (attr_is_code(attr) && !(attr & TYPE_READABLE)))
		return false;
	return attr_is_conforming(attr) || (rpl <= dpl && v->cpl <= dpl);
}

enum exec segment_load(struct vcpu *v, unsigned seg, u16 selector)
{
	const u32 error = selector & SELECTOR_INDEX;
	u64 descriptor;

	if (selector_is_null(selector)) {
		if (load_null(v, seg, selector) != EXEC_OK)
			return EXEC_FAULT;
	} else {
		if (descriptor_read(v, selector, VEC_GP, 0, &descriptor) != EXEC_OK)
			return EXEC_FAULT;
		if (!may_load(v, seg, selector, descriptor_attr(descriptor)))
			return vcpu_raise_error(v, VEC_GP, error);
		if (!(descriptor_attr(descriptor) & SEG_ATTR_P))
			return vcpu_raise_error(v, seg == SEG_SS ? VEC_SS : VEC_NP, error);
		if (descriptor_mark(v, selector, &descriptor, TYPE_ACCESSED) != EXEC_OK)
			return EXEC_FAULT;
		segment_set(&v->seg[seg], selector, descriptor);
	}
	v->fs_base = v->seg[SEG_FS].base;
	v->gs_base = v->seg[SEG_GS].base;
	return EXEC_OK;
}

void segment_set_flat(struct vcpu *v, u16 cs, u16 cs_attr, u16 ss, u16 ss_attr)
{
	v->seg[SEG_CS].selector = cs;
	v->seg[SEG_CS].attr = cs_attr;
	v->seg[SEG_CS].limit = UINT32_MAX;
	v->seg[SEG_CS].base = 0;
	v->seg[SEG_SS].selector = ss;
	v->seg[SEG_SS].attr = ss_attr;
	v->seg[SEG_SS].limit = UINT32_MAX;
	v->seg[SEG_SS].base = 0;
}

void segments_hide_from(struct vcpu *v, unsigned cpl)
{
	static const u8 data_segments[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++) {
		struct segment *segment = &v->seg[data_segments[i]];

		if (!(segment->attr & SEG_ATTR_P) || attr_is_conforming(segment->attr) ||
		    attr_dpl(segment->attr) >= cpl)
			continue;
		/* the base stays: 64-bit software sets it by MSR */
		segment->selector = 0;
		segment->attr = 0;
	}
}

enum exec segment_check(struct vcpu *v, unsigned seg, u32 offset, unsigned length, unsigned access)
{
	const struct segment *segment = &v->seg[seg];
	const bool code = segment->attr & TYPE_CODE, down = !code && (segment->attr & TYPE_DOWN);
	const u64 first = down ? segment->limit + 1ULL : 0;
	const u64 last = !down ? segment->limit : segment->attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;
	bool allowed = segment->attr & SEG_ATTR_P;

	if (access & ACCESS_WRITE)
		allowed = allowed && !code && (segment->attr & TYPE_WRITABLE);
	else
		allowed = allowed && (!code || (segment->attr & TYPE_READABLE));
	if (allowed && offset >= first && offset + (u64)length - 1 <= last)
		return EXEC_OK;
	return vcpu_raise_error(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

enum exec code_check(struct vcpu *v, u64 descriptor, unsigned cpl, u64 *rip)
{
	if (descriptor_attr(descriptor) & SEG_ATTR_L)
		return vcpu_canonical(*rip) ? EXEC_OK : raise_gp0(v);
	if (cpl != 3) {
		vm_stop_error(v->vm, "the guest's kernel enters 32-bit code, which is not supported");
		return EXEC_STOP;
	}
	*rip = (u32)*rip;
	return *rip <= descriptor_limit(descriptor) ? EXEC_OK : raise_gp0(v);
}
