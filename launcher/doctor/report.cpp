#include "launcher/doctor/report.h"

#include <cstdio>

#include "config/explain.h"

namespace towpath::doctor {

namespace {

constexpr int name_width = 24;

// What comes from proxies and files must not move the terminal's cursor.
std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

}  // namespace

std::string_view name_of(Result result) noexcept {
  switch (result) {
    case Result::ok: return "ok";
    case Result::warn: return "warn";
    case Result::fail: return "FAIL";
    case Result::skip: return "skip";
  }
  return "";
}

void Report::add(std::string_view name, Result result, std::string detail, std::string advice) {
  failed_ = failed_ || result == Result::fail;
  Check check{std::string(name), result, printable(std::move(detail)), printable(std::move(advice))};
  if (!json_) {
    std::printf("%-4s  %-*s  %s\n", name_of(result).data(), name_width, check.name.c_str(), check.detail.c_str());
    if (!check.advice.empty()) std::printf("      -> %s\n", check.advice.c_str());
    std::fflush(stdout);  // the next check may take seconds
  }
  checks_.push_back(std::move(check));
}

void Report::close(const std::string& summary) {
  if (!json_) {
    std::printf("\n%s\n", printable(summary).c_str());
    return;
  }
  std::string out = "{\"checks\":[";
  for (const Check& check : checks_) {
    if (&check != &checks_.front()) out += ",";
    out += "{\"name\":" + json_text(check.name) + ",\"result\":" + json_text(name_of(check.result)) +
           ",\"detail\":" + json_text(check.detail) + ",\"advice\":" + json_text(check.advice) + "}";
  }
  out += "],\"summary\":" + json_text(printable(summary)) + ",\"ok\":" + (failed_ ? "false" : "true") + "}\n";
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace towpath::doctor
