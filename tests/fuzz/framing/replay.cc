// SPDX-License-Identifier: MIT
//
// For compilers without libFuzzer: gives a fuzzer its corpus, the files in the
// folders and the files that the arguments name.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/framing/target.h"

namespace {

bool replay(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(in)),
                                  std::istreambuf_iterator<char>());
    if (!in) return false;
    // Said before: it may be the last word.
    std::fprintf(stderr, "%s\n", file.c_str());
    // A copy of exactly that size, as libFuzzer gives it.
    const fuzz::Exactly exact(std::as_bytes(std::span(bytes)));
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(exact.bytes().data()),
                           exact.bytes().size());
    return true;
}

}  // namespace

int main(int count, char** arguments) {
    std::size_t replayed = 0;
    for (int i = 1; i < count; ++i) {
        std::vector<std::filesystem::path> files;
        if (std::filesystem::is_directory(arguments[i])) {
            for (const auto& entry : std::filesystem::directory_iterator(arguments[i]))
                files.push_back(entry.path());
        } else {
            files.emplace_back(arguments[i]);
        }
        for (const auto& file : files) {
            if (!replay(file)) {
                std::fprintf(stderr, "cannot read %s\n", file.c_str());
                return 1;
            }
            ++replayed;
        }
    }
    std::fprintf(stderr, "%zu inputs replayed\n", replayed);
    return replayed != 0 ? 0 : 1;
}
