/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The ring's declarations are public, for producers that inline them
 */
#include <net/nlmmap_ring.h>
