/* Power-on state (SDM vol. 3A, table 9-1), except for what firmware has done before a kernel is entered. */
#include "cpu/features.h"
#include "cpu/fpu.h"
#include "cpu/system.h"

#include <cpuid.h>
#include <string.h>

#define RESET_VECTOR_BASE      0xffff0000ULL
#define RESET_RIP              0xfff0ULL
#define ATTR_REAL_CODE         0x009b
#define ATTR_REAL_DATA         0x0093
#define PAT_RESET              0x0007040600070406ULL
#define FEATURE_CONTROL_LOCKED 1ULL
#define MISC_ENABLE_RESET      (BIT(0) | BIT(11) | BIT(12)) /* fast strings; no branch trace, no PEBS */
#define RANDOM_SEED            0x6176616e74ULL

#define MEMORY_WB        6ULL
#define MTRR_ENABLED     (BIT(10) | BIT(11)) /* fixed ranges, all */
#define MTRR_FIXED_A0000 2                   /* in mtrr_fixed[]: the 128 KiB of the video memory window */
#define ALL_BYTES(type)  ((type)*0x0101010101010101ULL)
#define MTRR_VALID       BIT(11)

/* There is no firmware: RAM is write-back, the holes below 1 MiB and below 4 GiB are uncached. */
static void set_memory_types(struct vcpu *v)
{
	v->mtrr_def_type = MTRR_ENABLED | MEMORY_WB;
	for (unsigned i = 0; i < ARRAY_SIZE(v->mtrr_fixed); i++)
		v->mtrr_fixed[i] = ALL_BYTES(MEMORY_WB);
	v->mtrr_fixed[MTRR_FIXED_A0000] = 0;
	v->mtrr_variable[0] = RAM_LOW_END;
	v->mtrr_variable[1] = (BIT(MAXPHYADDR) - (RAM_HIGH_BASE - RAM_LOW_END)) | MTRR_VALID;
}

static void set_segments(struct vcpu *v)
{
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		v->seg[i].attr = ATTR_REAL_DATA;
		v->seg[i].limit = 0xffff;
	}
	v->seg[SEG_CS].selector = 0xf000;
	v->seg[SEG_CS].attr = ATTR_REAL_CODE;
	v->seg[SEG_CS].base = RESET_VECTOR_BASE;
	v->seg[SEG_LDTR].attr = 0x82;
	v->seg[SEG_TR].attr = 0x8b;
	v->gdtr.limit = 0xffff;
	v->idtr.limit = 0xffff;
}

void vcpu_reset(struct vcpu *v)
{
	const struct cpu_model *model = cpu_model_of(v);
	u32 eax, ebx, ecx = 0, edx;

	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[RDX] = model->signature;
	v->rip = RESET_RIP;
	v->cpl = 0;
	v->shadow = 0;
	vcpu_set_rflags(v, FLAG_FIXED);
	v->cr0 = CR0_ET | CR0_NW | CR0_CD;
	v->cr2 = v->cr3 = v->cr4 = 0;
	v->efer = 0;
	v->xcr0 = XCR0_X87;
	memset(v->dr, 0, sizeof(v->dr));
	v->dr[6] = 0xffff0ff0;
	v->dr[7] = 0x400;
	memset(v->seg, 0, sizeof(v->seg));
	v->gdtr.base = v->idtr.base = 0;
	set_segments(v);
	set_fs_base(v, 0);
	set_gs_base(v, 0);
	v->kernel_gs_base = 0;
	v->star = v->lstar = v->cstar = v->sfmask = 0;
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->pat = PAT_RESET;
	v->tsc_aux = 0;
	v->tsc_offset = 0;
	v->misc_enable = MISC_ENABLE_RESET;
	memset(v->mtrr_variable, 0, sizeof(v->mtrr_variable));
	set_memory_types(v);
	v->spec_ctrl = 0;
	v->feature_control = FEATURE_CONTROL_LOCKED;
	v->kvm_wall_clock = v->kvm_system_time = 0;
	v->random_state = RANDOM_SEED;
	v->host_rdrand = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_RDRND);
	fpu_reset(v);
	v->fault = (struct fault){0};
	vcpu_update_poll(v);
}
