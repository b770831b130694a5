%%% The library and the daemon are built with what makes a bug harder to use. A flag that is lost, as by a
%%% change in the Makefile, is seen in no other test.
-module(sockpool_hardening_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([library/1, system_calls_of_its_own/1, daemon/1]).

all() -> [library, system_calls_of_its_own, daemon].

init_per_suite(Config) ->
    case {os:type(), os:find_executable("readelf")} of
        {{unix, linux}, Readelf} when is_list(Readelf) -> Config;
        _ -> {skip, "readelf, on Linux, is what looks at the files"}
    end.

end_per_suite(_Config) -> ok.

file(Name) ->
    Path = filename:join(code:priv_dir(sockpool), Name),
    ?assert(filelib:is_regular(Path), Path),
    Path.

shows(Options, Path, Pattern) ->
    Said = os:cmd("LC_ALL=C readelf -W " ++ Options ++ " " ++ Path),
    ?assertMatch({match, _}, re:run(Said, Pattern, [multiline]), {Path, Pattern, Said}).

shows_not(Options, Path, Pattern) ->
    Said = os:cmd("LC_ALL=C readelf -W " ++ Options ++ " " ++ Path),
    ?assertMatch(nomatch, re:run(Said, Pattern, [multiline]), {Path, Pattern}).

library(_Config) ->
    Library = file("sockpool_nif.so"),
    hardened(Library),
    shows("-d", Library, "NODELETE").

%% A flag may take them away (core/base/sp_direct.h), which no other test sees.
system_calls_of_its_own(_Config) ->
    case erlang:system_info(system_architecture) of
        "x86_64" ++ _ -> shows_not("--dyn-syms", file("sockpool_nif.so"), " (recv|send)(@|$)");
        Other -> {skip, Other ++ " has none"}
    end.

daemon(_Config) ->
    Daemon = file("sockpool_node"),
    hardened(Daemon),
    %% Its place in memory is another one each time.
    shows("-h", Daemon, "Type: +DYN").

hardened(Path) ->
    shows("-d", Path, "BIND_NOW|FLAGS_1.*NOW"),
    shows("-l", Path, "GNU_RELRO"),
    shows("-l", Path, "GNU_STACK .* RW +0x"),
    shows_not("-d", Path, "TEXTREL"),
    shows("--dyn-syms", Path, "__stack_chk_fail"),
    shows("--dyn-syms", Path, "__(memcpy|memset|snprintf|vsnprintf|read|recv)_chk"),
    %% What a compiler was told it writes into the debugging information, of each file.
    Told = os:cmd("LC_ALL=C readelf -W --debug-dump=info " ++ Path ++ " | grep -a DW_AT_producer"),
    Flags = ["-fstack-protector-strong", "-fstack-clash-protection"
             | case erlang:system_info(system_architecture) of
                   "x86_64" ++ _ -> ["-fcf-protection"];
                   _ -> []
               end],
    Ours = [Line || Line <- string:lexemes(Told, "\n"), string:find(Line, "fvisibility=hidden") =/= nomatch],
    ?assert(length(Ours) > 20),
    [?assert(string:find(Line, Flag) =/= nomatch, {Flag, Line}) || Line <- Ours, Flag <- Flags].
