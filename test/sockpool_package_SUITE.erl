%%% The package for Hex: what is in it, that nothing else is needed to build it, as a dependency in a user's project as the
%%% README has it, for rebar3 and for Mix, and what the build says there.
-module(sockpool_package_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([files/1, metadata/1, versions/1, rebar3_project/1, mix_project/1, documentation/1, extras/1, warnings/1, what_is_missing/1, without_the_node/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> [files, metadata, versions, extras, {group, builds}, warnings, what_is_missing, without_the_node].

groups() -> [{builds, [parallel], [rebar3_project, mix_project, documentation]}].

init_per_group(_Group, Config) ->
    _ = package(Config),
    Config.

end_per_group(_Group, _Config) -> ok.

init_per_suite(Config) ->
    Root = sockpool_test_util:root(),
    {ok, [{application, sockpool, App}]} = file:consult(filename:join(Root, "src/sockpool.app.src")),
    Package = filename:join(?config(priv_dir, Config), "package"),
    [{root, Root}, {app, App}, {package, Package} | Config].

end_per_suite(_Config) -> ok.

%% As rebar3_hex picks them.
packed(Config) ->
    {Root, App} = {?config(root, Config), ?config(app, Config)},
    Excluded = ["~$", "\\.o$", "\\.so$", "\\.swp$" | proplists:get_value(exclude_regexps, App)],
    [Path || Pattern <- proplists:get_value(files, App),
             Found <- filelib:wildcard(Pattern, Root),
             Path <- [Found | [filename:join(Found, Below)
                               || Below <- filelib:wildcard("**", filename:join(Root, Found))]],
             filelib:is_regular(filename:join(Root, Path)),
             lists:all(fun(Re) -> re:run(Path, Re) =:= nomatch end, Excluded)].

%% Made once, by the case that comes first; a repository, since that is how the README's projects get it.
package(Config) ->
    {Root, Package} = {?config(root, Config), ?config(package, Config)},
    filelib:is_dir(Package) orelse
        begin
            [written(Package, Path, element(2, file:read_file(filename:join(Root, Path)))) || Path <- packed(Config)],
            {0, _} = run(Package, "git init -q -b main && git add . && git -c user.name=me -c user.email=me@localhost "
                         "-c commit.gpgsign=false commit -q -m package")
        end,
    Package.

written(Dir, Path, Text) ->
    To = filename:join(Dir, Path),
    ok = filelib:ensure_dir(To),
    ok = file:write_file(To, Text).

%% The block of the README that is that file.
readme(Config, File) ->
    string:replace(sockpool_docs_kit:file("README.md", File), "URL-of-this-repository", "file://" ++ package(Config)).

run(Dir, Command) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{cd, Dir}, {args, ["-c", "{ " ++ Command ++ "\n} </dev/null"]}, exit_status, stderr_to_stdout,
                      {env, [{"SOCKPOOL_STRICT", false}, {"CFLAGS", "-O0"}]}]),
    said(Port, []).

said(Port, Said) ->
    receive
        {Port, {data, Data}} -> said(Port, [Said, Data]);
        {Port, {exit_status, Status}} -> {Status, lists:flatten(Said)}
    end.

says(Part, {_Status, Said}) -> string:find(Said, Part) =/= nomatch.

%%% The cases.

%% All that git tracks there, and nothing that was built.
files(Config) ->
    Packed = packed(Config),
    [?assert(lists:member(File, Packed), File)
     || File <- ["src/sockpool.erl", "src/sockpool.app.src", "c_src/Makefile", "c_src/needs.sh", "rebar.config",
                 "README.md", "CHANGELOG.md", "LICENSE"]],
    [?assertEqual([], [Path || Path <- Packed, filename:extension(Path) =:= Ending])
     || Ending <- [".o", ".d", ".so", ".beam"]],
    ?assertEqual([], [Path || Path <- Packed, filename:basename(Path) =:= "sockpool_node"]),
    Root = ?config(root, Config),
    case run(Root, "git -c safe.directory='*' ls-files src c_src docs contrib") of
        {0, Said} -> ?assertEqual([], string:lexemes(Said, "\n") -- Packed);
        {_NoRepository, Why} -> ct:pal("not compared with git: ~ts", [Why])
    end.

metadata(Config) ->
    App = ?config(app, Config),
    Description = proplists:get_value(description, App),
    ?assert(length(Description) =< 300, Description),
    ?assertEqual(["Apache-2.0"], proplists:get_value(licenses, App)),
    ?assertMatch([_ | _], [ok || {_Name, "https://" ++ _} <- proplists:get_value(links, App)]).

%% The application's, the changelog's, the Gleam package's; and that of the tag, where there is one.
versions(Config) ->
    Root = ?config(root, Config),
    Version = proplists:get_value(vsn, ?config(app, Config)),
    [?assertEqual({File, {match, [Version]}},
                  {File, re:run(element(2, file:read_file(filename:join(Root, File))), Pattern,
                                [multiline, {capture, all_but_first, list}])})
     || {File, Pattern} <- [{"CHANGELOG.md", "^## (.*)$"}, {"gleam/gleam.toml", "^version = \"(.*)\"$"}]],
    case run(Root, "git -c safe.directory='*' describe --exact-match --tags 2>/dev/null") of
        {0, Tag} -> ?assertEqual("v" ++ Version, string:trim(Tag));
        {_NoTag, _} -> ok
    end.

%% With a release.
rebar3_project(Config) ->
    User = filename:join(?config(priv_dir, Config), "rebar3_project"),
    Relx = "{relx, [{release, {my_app, \"1\"}, [my_app]}, {sys_config, \"sys.config\"}, {mode, dev}]}.\n",
    written(User, "rebar.config", [readme(Config, "rebar.config"), Relx]),
    written(User, "sys.config", readme(Config, "sys.config")),
    written(User, "src/my_app.app.src",
            "{application, my_app, [{description, \"\"}, {vsn, \"1\"}, {applications, [kernel, stdlib, sockpool]}]}.\n"),
    Built = run(User, rebar3() ++ " release"),
    ct:pal("~ts", [element(2, Built)]),
    ?assertMatch({0, _}, Built),
    Eval = "{ok, Vsn} = application:get_key(sockpool, vsn), "
           "io:format(\"~s ~p~n\", [Vsn, lists:sort(element(2, sockpool:which_pools()))]), halt().",
    Ran = run(User, "_build/default/rel/my_app/bin/my_app foreground -kernel logger_level critical -eval '" ++ Eval ++ "'"),
    ?assert(says(proplists:get_value(vsn, ?config(app, Config)) ++ " [jobs,sessions]\n", Ran), Ran).

mix_project(Config) ->
    case os:find_executable("mix") of
        false -> {skip, "there is no mix"};
        _Mix -> mix_projected(Config)
    end.

mix_projected(Config) ->
    User = filename:join(?config(priv_dir, Config), "mix_project"),
    [written(User, File, readme(Config, File)) || File <- ["mix.exs", "config/config.exs"]],
    Mix = "HOME=" ++ User ++ " LC_ALL=C.UTF-8 MIX_ENV=prod MIX_REBAR3=$(command -v " ++ rebar3() ++ ") PKG_CONFIG_LIBDIR=/no mix ",
    [begin
         Result = run(User, Mix ++ Task),
         ct:pal("~ts", [element(2, Result)]),
         ?assertMatch({0, _}, Result)
     end || Task <- ["deps.get", "compile", "release"]],
    Ran = run(User, "_build/prod/rel/my_app/bin/my_app eval "
              "'{:ok, _} = Application.ensure_all_started(:sockpool); IO.inspect(:sockpool.which_pools())'"),
    ?assertMatch({0, _}, Ran),
    ?assert(says("[:sessions]", Ran), Ran).

%% What `h' of a shell shows.
documentation(Config) ->
    Package = package(Config),
    ?assertMatch({0, _}, run(Package, "PKG_CONFIG_LIBDIR=/no " ++ rebar3() ++ " do compile, edoc")),
    Eval = "{ok, Docs} = code:get_doc(sockpool), io:format(\"~ts\", [shell_docs:render(sockpool, request, Docs)]), halt().",
    Shown = run(Package, "erl -noshell -pa _build/default/lib/sockpool/ebin -eval '" ++ Eval ++ "'"),
    ?assert(says("Checks a connection out, sends the data, receives the reply", Shown), Shown),
    [?assert(filelib:is_regular(filename:join([Package, "_build/default/lib/sockpool/doc/chunks",
                                               filename:basename(Source, ".erl") ++ ".chunk"])), Source)
     || Source <- ["sockpool.erl", "sockpool_node.erl"]].

%% The web pages have every document, and nothing that is not there.
extras(Config) ->
    {ok, Terms} = file:consult(filename:join(?config(root, Config), "rebar.config")),
    Extras = proplists:get_value(extras, proplists:get_value(ex_doc, Terms)),
    ?assertEqual(lists:sort(["CHANGELOG.md", "LICENSE" | sockpool_docs_kit:documents()]), lists:sort(Extras)).

rebar3() -> os:getenv("REBAR3", "rebar3").

%% A compiler that knows more of them than ours does not break a user's build.
warnings(Config) ->
    Package = package(Config),
    Nif = hd(filelib:wildcard("c_src/nif/**/sp_nif_clock.c", Package)),
    ok = file:write_file(filename:join(Package, Nif), "static int nobody_uses_it;\n", [append]),
    ok = file:write_file(filename:join(Package, "src/pool/sockpool_step.erl"), "nobody_calls_it() -> ok.\n", [append]),
    {0, Said} = run(Package, rebar3() ++ " bare compile --paths _build/default/lib/*/ebin"),
    [?assert(string:find(Said, Part) =/= nomatch, Said) || Part <- ["nobody_uses_it", "nobody_calls_it"]],
    C = run(Package, "SOCKPOOL_STRICT=1 make -s -C c_src"),
    ?assertMatch({2, _}, C),
    ?assert(says("nobody_uses_it", C)),
    Erlang = run(Package, rebar3() ++ " as strict compile"),
    ?assertMatch({1, _}, Erlang),
    ?assert(says("nobody_calls_it", Erlang)).

%% A header that is not there, and one that is too old.
what_is_missing(Config) ->
    Package = package(Config),
    Make = fun(Name, Header) ->
                   Include = filename:join([?config(priv_dir, Config), Name]),
                   ok = filelib:ensure_dir(filename:join(Include, "openssl/x")),
                   ok = file:write_file(filename:join(Include, "openssl/ssl.h"), Header),
                   run(Package, "make -s -C c_src OUT=../_build/" ++ Name ++ " OPENSSL_CFLAGS=-I" ++ Include)
           end,
    [begin
         ?assertMatch({2, _}, Result),
         ?assert(says("sockpool cannot be compiled: " ++ Part, Result), Result)
     end || {Result, Part} <-
                [{Make("none", "#error\n"), "OpenSSL's headers are missing (Debian: apt-get install libssl-dev)"},
                 {Make("old", "#define OPENSSL_VERSION_NUMBER 0x1000200fL\n"), "OpenSSL is older than 1.1.1"},
                 {run(Package, "make -s -C c_src OUT=../_build/no_compiler CC=no_such_compiler"),
                  "there is no C compiler 'no_such_compiler' (Debian: apt-get install gcc)"},
                 {run(Package, "make -s -C c_src OUT=../_build/no_erlang ERL_INCLUDE=/no CC='cc -D__ERL_NIF_H__ -nostdinc'"),
                  "the C library's headers are missing (Debian: apt-get install libc6-dev)"}]].

%% The library is built, and who reads it knows why there is no daemon.
without_the_node(Config) ->
    Said = run(package(Config), "PKG_CONFIG_LIBDIR=/no PKG_CONFIG_PATH= make -s -C c_src TARGET=../_build/priv/sockpool_nif.so"),
    ?assertMatch({0, _}, Said),
    ?assert(says("(priv/sockpool_node) is left out, the rest is whole. It needs: libuv1-dev libjansson-dev\n", Said), Said).
