// What `towpath doctor` found, one line per check. Text goes out as it is found, JSON at the end.
//
// Details and advice never hold a password: proxies are shown by ProxyUrl::display().
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace towpath::doctor {

enum class Result : unsigned char {
  ok,
  warn,  // works, but somebody may be surprised by how
  fail,  // something that is needed does not work
  skip,  // could not be tried here, and why
};

[[nodiscard]] std::string_view name_of(Result result) noexcept;

class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  // `advice`: what to change; may be empty.
  void add(std::string_view name, Result result, std::string detail, std::string advice = {});
  // The last word.
  void close(const std::string& summary);
  [[nodiscard]] bool failed() const noexcept { return failed_; }

 private:
  struct Check {
    std::string name;
    Result result;
    std::string detail, advice;
  };

  bool json_;
  bool failed_ = false;
  std::vector<Check> checks_;
};

}  // namespace towpath::doctor
