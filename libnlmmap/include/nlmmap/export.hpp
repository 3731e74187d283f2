// SPDX-License-Identifier: MIT
// What the shared library exports: everything else in it is hidden.
#pragma once

#define NLMMAP_EXPORT __attribute__((visibility("default")))
