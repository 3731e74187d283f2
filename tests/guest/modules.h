// SPDX-License-Identifier: MIT
//
// The guest's kernel modules, loaded and unloaded by tests.
#pragma once

#include <string>

namespace guest {

// Loads /modules/MODULE.ko: 0 or an errno.
int load(const std::string& module, const std::string& parameters = "");

// One attempt: 0 or an errno, EWOULDBLOCK while somebody uses it.
int unload(const std::string& module);

// Some references are dropped a moment after the last close(): the same, waiting for that.
bool unloads(const std::string& module);

bool loaded(const std::string& module);

// How many hold it; -1 if it is not loaded.
long references(const std::string& module);

}  // namespace guest
