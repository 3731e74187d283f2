// SPDX-License-Identifier: MIT
// nlmmap-record, which does what `nlmmap record` is asked: a program of its own, because it alone
// needs libpcap, and the twenty libraries that this draws in would be loaded by every command.
#pragma once

#include "tools/nlmmap/record_options.h"

namespace nlmmap::tool {

// The process becomes nlmmap-record, which lies beside this program, or where it is installed.
// Throws std::system_error if it is not there, cannot be run, or belongs to somebody who is neither
// root nor the owner of this program. File capabilities of this program do not go along.
[[noreturn]] void become_recorder(const RecordOptions& options);

}  // namespace nlmmap::tool
