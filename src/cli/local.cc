// The commands that need no server and open no data directory.
#include "base/json.h"
#include "cli/handlers.h"
#include "cli/licences.h"
#include "cli/machine.h"
#include "cli/settings_from.h"
#include "server/cluster_settings.h"

namespace pyralog::cli {

namespace {

#ifdef NDEBUG
constexpr const char* kBuild = "release";
#else
constexpr const char* kBuild = "debug";
#endif

}  // namespace

server::SettingSources sources_from(const Args& args) {
  server::SettingSources sources;
  sources.machine = size_of_machine();
  sources.environment = server::process_environment();
  if (const auto it = sources.environment.find("PYRALOG_CONFIG"); it != sources.environment.end()) {
    sources.config_file = it->second;
  }
  if (args.has("config")) sources.config_file = args.text("config");
  for (const server::Setting& setting : server::settings()) {
    const std::string flag = server::flag_of(setting);
    for (const std::string& value : args.list(flag.substr(2))) {
      sources.command_line.push_back({std::string(setting.key), value, "option " + flag});
    }
  }
  return sources;
}

Result<void> check_secret(const server::ServerOptions& options) {
  if (options.secret_file.empty()) return {};
  PYRALOG_TRY(server::read_secret(options.secret_file));
  return {};
}

Outcome config_check(const Args& args, Console& console) {
  const auto loaded = server::load_settings(sources_from(args));
  if (!loaded) return std::unexpected<Failure>(Failure(loaded.error(), 2));
  const auto plan = server::plan_listeners(loaded->options);
  if (!plan) return std::unexpected<Failure>(Failure(plan.error(), 2));
  if (const auto fine = check_secret(loaded->options); !fine) {
    return std::unexpected<Failure>(Failure(fine.error(), 2));
  }
  const auto origin_of = [&](std::string_view key) {
    const auto it = loaded->origins.find(key);
    return it == loaded->origins.end() ? std::string("default") : it->second;
  };
  if (args.flag("json")) {
    JsonWriter json;
    json.object().field("ok", true).key("settings").object();
    for (const server::Setting& setting : server::settings()) {
      json.key(setting.key)
          .object()
          .field("value", server::value_of(loaded->options, setting))
          .field("origin", origin_of(setting.key))
          .end();
    }
    json.end().key("warnings").array();
    for (const std::string& warning : plan->warnings) json.value(warning);
    print(console.out, json.end().end().text() + "\n");
    return {};
  }
  for (const server::Setting& setting : server::settings()) {
    if (!loaded->origins.contains(setting.key)) continue;
    print(console.out, std::string(setting.key) + " = " +
                           server::value_of(loaded->options, setting) + "  (" +
                           origin_of(setting.key) + ")\n");
  }
  for (const std::string& warning : plan->warnings)
    print(console.out, "warning: " + warning + "\n");
  print(console.out, "the settings are fine\n");
  return {};
}

Outcome config_reference(const Args& args, Console& console) {
  if (args.flag("json")) {
    print(console.out, server::reference_json() + "\n");
    return {};
  }
  if (args.flag("markdown")) {
    print(console.out, server::reference_markdown());
    return {};
  }
  const server::ServerOptions defaults;
  for (const server::Setting& setting : server::settings()) {
    print(console.out, std::string(setting.key) + " = " + server::value_of(defaults, setting) +
                           "\n    " + std::string(setting.help) + "\n");
  }
  return {};
}

namespace {

void licences_json(JsonWriter& json) {
  json.key("licences").array();
  for (const Licence& each : licences()) {
    const LicenceText found = licence_text(each.key);
    json.object()
        .field("name", each.name)
        .field("version", each.version)
        .field("licence", each.id)
        .field("home", each.home)
        .field("package", found.package);
    json.key("shared").array();
    for (const std::string& library : each.shared) json.value(library);
    json.end().field("text", found.text).end();
  }
  json.end();
}

std::string licences_text() {
  std::string list = "This binary contains or links, under the licence named:\n";
  std::string texts;
  for (const Licence& each : licences()) {
    const std::string name = each.name + " " + each.version;
    list += "  " + name + "  " + each.id +
            (each.key == "pyralog" ? ""
             : each.shared.empty() ? "  (compiled in)"
                                   : "  (shared library)") +
            "\n";
    const std::string_view text = licence_text(each.key).text;
    texts += "\n==== " + name + ": " + each.id + (each.home.empty() ? "" : ", " + each.home) +
             "\n\n" + (text.empty() ? "The text is at that address.\n" : std::string(text));
  }
  return list + texts;
}

}  // namespace

Outcome version(const Args& args, Console& console) {
  const bool all = args.flag("licences");
  if (args.flag("json")) {
    JsonWriter json;
    json.object()
        .field("name", "pyralog")
        .field("version", PYRALOG_VERSION)
        .field("build", kBuild)
        .field("compiler", "clang " __clang_version__)
        .field("licence", "MIT-0");
    if (all) licences_json(json);
    print(console.out, json.end().text() + "\n");
    return {};
  }
  print(console.out, std::string("pyralog ") + PYRALOG_VERSION + " (" + kBuild + ", clang " +
                         __clang_version__ + "), licence MIT-0\n");
  if (all) print(console.out, licences_text());
  return {};
}

Outcome completion(const Args& args, Console& console) {
  auto script = completion_script(args.text("SHELL"));
  if (!script) return usage(script.error().message);
  if (args.flag("json")) {
    JsonWriter json;
    print(console.out, json.object().field("script", *script).end().text() + "\n");
    return {};
  }
  print(console.out, *script);
  return {};
}

Outcome man(const Args& args, Console& console) {
  if (args.flag("json")) {
    JsonWriter json;
    print(console.out, json.object().field("page", man_page()).end().text() + "\n");
    return {};
  }
  print(console.out, man_page());
  return {};
}

}  // namespace pyralog::cli
