// SPDX-License-Identifier: MIT
#include <nlmmap/error.hpp>
#include <utility>

namespace nlmmap {

struct Error::Text {
    std::string operation;
    std::string sentence;
    std::string advice;
    std::string all;
};

Error::Error(int errnum, std::string operation, std::string sentence, std::string advice)
    : std::system_error(errnum, std::generic_category()) {
    std::string all = operation + ": " + code().message();
    if (!sentence.empty()) all += ": " + sentence;
    if (!advice.empty()) all += "; " + advice;
    text_ = std::make_shared<const Text>(
        Text{std::move(operation), std::move(sentence), std::move(advice), std::move(all)});
}

Error::~Error() = default;

const std::string& Error::operation() const noexcept { return text_->operation; }
const std::string& Error::sentence() const noexcept { return text_->sentence; }
const std::string& Error::advice() const noexcept { return text_->advice; }
const char* Error::what() const noexcept { return text_->all.c_str(); }

}  // namespace nlmmap
