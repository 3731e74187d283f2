// SPDX-License-Identifier: MIT
#include "tools/nlmmap/recorder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace nlmmap::tool {
namespace {

constexpr const char* kRecorder = "nlmmap-record";

struct stat status_of(const char* path) {
    struct stat status{};
    if (::stat(path, &status) != 0) throw std::system_error(errno, std::generic_category(), path);
    return status;
}

// Who calls this program by its path, perhaps as root, trusts who owns it, and root: nobody else's
// file is run because it lies beside.
void check_trusted(const std::string& path) {
    const struct stat recorder = status_of(path.c_str());
    if (recorder.st_uid != 0 && recorder.st_uid != status_of("/proc/self/exe").st_uid)
        throw std::system_error(
            EPERM, std::generic_category(),
            path + " is not run: it belongs neither to root nor to who owns nlmmap");
    if ((recorder.st_mode & S_IWOTH) != 0)
        throw std::system_error(EPERM, std::generic_category(),
                                path + " is not run: everybody may write to it");
}

std::string recorder_path() {
    namespace fs = std::filesystem;
    const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
    for (const char* const folder : {".", "../libexec/nlmmap", "../lib/nlmmap"}) {
        const fs::path path = here / folder / kRecorder;
        std::error_code none;
        if (!fs::exists(path, none)) continue;
        std::string found = fs::canonical(path).string();
        check_trusted(found);
        return found;
    }
    throw std::system_error(
        ENOENT, std::generic_category(),
        std::string(kRecorder) +
            ", the program that writes capture files (it needs libpcap), is neither in " +
            here.string() +
            " nor in ../libexec/nlmmap: build it (bazel build //tools/nlmmap:nlmmap-record) and "
            "install it there; if nlmmap has capabilities (setcap), it needs its own");
}

}  // namespace

void become_recorder(const RecordOptions& options) {
    std::string path = recorder_path();
    std::vector<std::string> said = record_arguments(options);
    std::vector<char*> arguments = {path.data()};
    for (std::string& argument : said) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    ::execv(path.c_str(), arguments.data());
    throw std::system_error(errno, std::generic_category(), path);
}

}  // namespace nlmmap::tool
