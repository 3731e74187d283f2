/* SPDX-License-Identifier: GPL-2.0 */
/*
 * <linux/mm.h>, and what it lacks before Linux 6.3. Kbuild looks whether it
 * does, so that no version test stands anywhere.
 */
#ifndef _NLMMAP_COMPAT_LINUX_MM_H
#define _NLMMAP_COMPAT_LINUX_MM_H

#include_next <linux/mm.h>

#ifdef NLMMAP_NEED_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	mmap_assert_write_locked(vma->vm_mm);
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	mmap_assert_write_locked(vma->vm_mm);
	vma->vm_flags &= ~flags;
}
#endif

#endif /* _NLMMAP_COMPAT_LINUX_MM_H */
