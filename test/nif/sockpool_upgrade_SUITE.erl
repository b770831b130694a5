%%% One library takes over from another in a VM that works: waits, receives, TLS connections and handshakes are
%%% under way. It is accepted where all that the two share is declared alike, else refused, and either way
%%% nobody notices. Under AddressSanitizer, which sees a library that takes a struct for longer than it is.
%%%
%%% "Before" is the last release's tag, or else the commit in test/nif/upgrade_from, whose TLS structs were
%%% others. Without git, or in a clone without that history, those cases are skipped.
-module(sockpool_upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2]).
-export([from_the_last_release/1, back_to_the_last_release/1, to_another_build/1,
         to_another_declaration/1, every_declaration_counts/1, waiters_are_put_by_once/1]).
%% Run in the other VM.
-export([begin_work/1, take_over/1, end_work/1, put_by/1, log/2]).

-import(sockpool_test_util, [wait_until/1, settled/1, start/1, await/1]).

-define(PATIENCE_MS, 60000).
%% Without warnings: what was released may use what later libraries deprecate.
-define(BUILD, " -j2 CC=gcc CFLAGS='-O0 -g1 -w' SANITIZE=address ").

suite() -> [{timetrap, {minutes, 10}}].

all() ->
    [from_the_last_release, back_to_the_last_release, to_another_build, to_another_declaration,
     every_declaration_counts, waiters_are_put_by_once].

init_per_suite(Config) ->
    Root = sockpool_test_util:root(),
    Dir = filename:join(?config(priv_dir, Config), "versions"),
    Now = copied(Root, filename:join(Dir, "now/sockpool"), "c_src src"),
    [] = built(Now),
    Before = case run(["cd ", Root, " && if [ -e .git ]; then git describe --tags --abbrev=0 2>/dev/null || "
                       "cat test/nif/upgrade_from; fi"]) of
                 "" -> {skip, "not a clone of the repository: no version before this one"};
                 Said -> before(Root, string:trim(Said), filename:join(Dir, "before/sockpool"))
             end,
    [{root, Root}, {versions, Dir}, {now, Now}, {before, Before}
     | sockpool_tls_kit:start(Config)].

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

before(Root, Commit, Dir) ->
    ok = filelib:ensure_path(Dir),
    case run(["cd ", Root, " && git -c safe.directory='*' archive -o ", Dir, "/all.tar ", Commit,
              " c_src src 2>&1 && tar -C ", Dir, " -xf ", Dir, "/all.tar"]) of
        "" -> [] = built(Dir), Dir;
        Why -> {skip, "no " ++ Commit ++ " in this clone: " ++ Why}
    end.

init_per_testcase(Case, Config)
  when Case =:= from_the_last_release; Case =:= back_to_the_last_release ->
    case ?config(before, Config) of
        {skip, _} = Skip -> Skip;
        _Dir -> Config
    end;
init_per_testcase(_Case, Config) ->
    Config.

%%% Building.

run(Command) -> os:cmd(lists:flatten(Command)).

%% With all times: what was built there is not built again.
copied(Root, Dir, Names) ->
    ok = filelib:ensure_path(Dir),
    [] = run(["cd ", Root, " && cp -a ", Names, " ", Dir]),
    Dir.

copied(Config, Name) ->
    copied(?config(now, Config), filename:join([?config(versions, Config), Name, "sockpool"]), ".").

%% The library, and the modules.
built(Dir) ->
    library_built(Dir) ++
        run(["cd ", Dir, " && mkdir -p ebin && cp src/sockpool.app.src ebin/sockpool.app && ",
             "erlc -o ebin $(find src -name '*.erl') 2>&1"]).

library_built(Dir) ->
    Library = Dir ++ "/priv/sockpool_nif.so",
    run(["make -s -C ", Dir, "/c_src OUT=", Dir, "/obj TARGET=", Library, ?BUILD, Library, " 2>&1"]).

layout(Dir) ->
    Number = string:trim(run(["cd ", Dir, "/c_src && sh layout.sh core nif"])),
    _ = list_to_integer(Number),
    Number.

%% In place, by sed.
changed(Dir, File, Expression) ->
    Path = filename:join([Dir, "c_src", File]),
    {ok, Before} = file:read_file(Path),
    [] = run(["sed -i '", Expression, "' ", Path]),
    {ok, After} = file:read_file(Path),
    ?assertNotEqual(Before, After).

%%% The other VM.

with_vm(Config, Dir, Fun) ->
    Log = filename:join(?config(priv_dir, Config), "asan"),
    Asan = string:trim(run("gcc -print-file-name=libasan.so")),
    Options = "detect_leaks=0:use_sigaltstack=0:allocator_may_return_null=1:exitcode=99:log_path=" ++ Log,
    {ok, Vm, _} = peer:start(#{connection => standard_io, wait_boot => ?PATIENCE_MS,
                               env => [{"LD_PRELOAD", Asan}, {"ASAN_OPTIONS", Options}],
                               args => ["+S", "2", "+Mea", "min", "+sbwt", "none", "-pa", filename:join(Dir, "ebin")]
                                       ++ tests()}),
    try
        Library = filename:join(Dir, "ebin"),
        Library = filename:dirname(peer:call(Vm, code, which, [sockpool_nif], ?PATIENCE_MS)),
        Fun(fun(Function, Args) -> peer:call(Vm, ?MODULE, Function, Args, ?PATIENCE_MS) end)
    after
        peer:stop(Vm),
        Reports = [Report || Path <- filelib:wildcard(Log ++ ".*"), {ok, Report} <- [file:read_file(Path)]],
        ?assertEqual([], Reports)
    end.

upgraded(Config, From, To) ->
    Plain = sockpool_test_server:start(),
    Silent = sockpool_test_server:start(silent),
    Tls = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "server")),
    Pools = #{plain => sockpool_test_server:target(Plain),
              silent => sockpool_test_server:target(Silent),
              tls => #{host => "127.0.0.1", port => sockpool_tls_peers:port(Tls), transport => tls,
                       tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca"), server_name => "localhost"}}},
    with_vm(Config, From,
            fun(Call) ->
                    Work = Call(begin_work, [Pools]),
                    Result = Call(take_over, [filename:join(To, "ebin")]),
                    ok = Call(end_work, [Work]),
                    Result
            end).

-spec begin_work(map()) -> term().
begin_work(Pools) ->
    %% All of it, for the path will lead to another version's.
    Modules = filelib:wildcard(filename:join(filename:dirname(code:which(sockpool)), "*.beam")),
    ok = code:ensure_modules_loaded([list_to_atom(filename:basename(File, ".beam")) || File <- Modules]),
    Parent = self(),
    Work = spawn(fun() -> work(Parent, Pools) end),
    receive {Work, begun} -> Work after ?PATIENCE_MS -> error(not_begun) end.

%% Twice, and with the old code purged, as a second upgrade would do it.
-spec take_over(file:filename()) -> [accepted | {refused, Logged :: string()}].
take_over(Ebin) ->
    true = code:replace_path(sockpool, Ebin),
    [take_over(Ebin, code:priv_dir(sockpool)) || _ <- [1, 2]].

take_over(Ebin, Priv) ->
    ?assertEqual(filename:dirname(Ebin), filename:dirname(Priv)),
    _ = code:purge(sockpool_nif),
    ok = sockpool_test_log:hear(?MODULE, ?MODULE, #{config => self()}),
    Taken = case code:load_file(sockpool_nif) of
                {module, sockpool_nif} -> accepted;
                {error, on_load_failure} -> {refused, logged()}
            end,
    ok = sockpool_test_log:forget(?MODULE),
    Taken.

log(Event, #{config := Pid}) ->
    Pid ! {logged, lists:flatten(logger_formatter:format(Event, #{single_line => true}))}.

%% The code server says it after its answer.
logged() ->
    Line = receive {logged, Said} -> Said after ?PATIENCE_MS -> error(nothing_logged) end,
    case string:find(Line, "on_load function for module sockpool_nif") of
        nomatch -> logged();
        _ -> Line
    end.

-spec end_work(pid()) -> ok.
end_work(Work) ->
    Monitor = monitor(process, Work),
    Work ! {self(), finish},
    receive
        {Work, finished} -> ok;
        {'DOWN', Monitor, process, Work, Why} -> error(Why)
    after ?PATIENCE_MS ->
        error({not_finished, process_info(Work, [current_stacktrace, messages])})
    end.

%% Each pool has fewer connections than users, so that some always wait.
work(Parent, Pools) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [ok = start_pool(Name, Opts#{size => 3, max_overflow => 0, connect_timeout => 30000, checkout_timeout => 30000})
     || {Name, Opts} <- maps:to_list(Pools)],
    _ = [settled(Name) || Name <- maps:keys(Pools)],
    [{ok, Held}, {ok, HeldTls}] = [sockpool:checkout(Name) || Name <- [plain, tls]],
    Reader = start(fun() -> sockpool:transaction(silent, fun(Conn) -> sockpool:recv(Conn, 1, 30000) end) end),
    Waiter = start(fun() -> sockpool:execute(silent, fun(_) -> ok end, infinity) end),
    Counts = counters:new(1, []),
    Users = [start(fun() -> use(Name, Counts) end) || Name <- [plain, tls], _ <- lists:seq(1, 6)],
    ok = done_more(Counts),
    Parent ! {self(), begun},
    Asker = receive {From, finish} -> From end,
    ok = done_more(Counts),
    _ = code:purge(sockpool_nif),
    ok = sockpool:reload_tls(tls),
    [ok = echo(Conn) || Conn <- [Held, HeldTls]],
    ok = sockpool:checkin(Held),
    %% The next ones are of whichever library is there now.
    ok = sockpool:discard(HeldTls),
    ok = done_more(Counts),
    [begin Pid ! stop, ok = await(User) end || {Pid, _, _} = User <- Users],
    exit(element(1, Reader), kill),
    {ok, ok} = await(Waiter),
    _ = [settled(Name) || Name <- [plain, tls]],
    [ok = sockpool:stop_pool(Name) || Name <- maps:keys(Pools)],
    ok = start_pool(tls, maps:get(tls, Pools)),
    ok = sockpool:transaction(tls, fun echo/1, 30000),
    ok = application:stop(sockpool),
    Asker ! {self(), finished}.

%% The last release says {ok, Pid}.
start_pool(Name, Opts) ->
    case sockpool:start_pool(Name, Opts) of
        ok -> ok;
        {ok, _Pid} -> ok
    end.

use(Name, Counts) ->
    receive
        stop -> ok
    after 0 ->
        ok = sockpool:transaction(Name, fun echo/1, 30000),
        {ok, <<"abc">>} = sockpool:request(Name, "abc", 3, 30000),
        counters:add(Counts, 1, 1),
        use(Name, Counts)
    end.

echo(Conn) ->
    ok = sockpool:send(Conn, "hello"),
    {ok, <<"hello">>} = sockpool:recv(Conn, 5, 30000),
    ok.

done_more(Counts) ->
    Then = counters:get(Counts, 1) + 50,
    wait_until(fun() -> counters:get(Counts, 1) >= Then end).

%%% The cases.

from_the_last_release(Config) ->
    Result = upgraded(Config, ?config(before, Config), ?config(now, Config)),
    ct:pal("from ~s: ~p", [?config(before, Config), Result]).

back_to_the_last_release(Config) ->
    Result = upgraded(Config, ?config(now, Config), ?config(before, Config)),
    ct:pal("back: ~p", [Result]).

%% Another file, made from the same declarations.
to_another_build(Config) ->
    Dir = copied(Config, "another_build"),
    ok = changed(Dir, "nif/sp_nif.c", "s/^static int load/static int other = 1;\\n&/;s/    (void)info;/&(void)other;/"),
    [] = library_built(Dir),
    ?assertEqual([accepted, accepted], upgraded(Config, ?config(now, Config), Dir)).

%% As between the two whose TLS structs differed.
to_another_declaration(Config) ->
    Dir = copied(Config, "another_declaration"),
    ok = changed(Dir, "core/tls/sp_tls.c", "s/^struct tls {/&\\n    char more[512];/"),
    [] = library_built(Dir),
    Now = ?config(now, Config),
    [?assertEqual([{Part, refused, true} || Part <- Says, _ <- [1, 2]],
                  [{Part, Said, string:find(Line, Part) =/= nomatch} || Part <- Says, {Said, Line} <- Results])
     || Results <- [upgraded(Config, Now, Dir), upgraded(Config, Dir, Now)],
        Says <- [["cannot take over the connections", "when the node is started again"]]].

%% No list of them is kept, so none can be missing from it.
every_declaration_counts(Config) ->
    Dir = copied(Config, "declarations"),
    Is = layout(Dir),
    Alike = [{"core/pool/sp_pool.h", "1i /* some\\nwords */"},
             {"core/conn/sp_conn.h", "s/^    int fd;/    int  fd; \\/\\/ words/"},
             {"core/pool/sp_retire.c", "s/^static void leave(/static inline void leave(/"}],
    Others = [{"nif/sp_nif.h", "s/#define SP_NIF_LAYOUT .*/#define SP_NIF_LAYOUT 99/"},
              {"core/pool/sp_stats.h", "s/X(checkouts)/X(others) X(checkouts)/"},
              {"core/conn/sp_conn.c", "s/0x80000000u/0x40000000u/"},
              {"core/base/sp_status.h", "s/X(EMPTY, 4/X(VOID, 4/"}],
    [?assertEqual(Is, layout_with(Dir, Change), Change) || Change <- Alike],
    [?assertNotEqual(Is, layout_with(Dir, Change), Change) || Change <- Others ++ every_struct(Dir)],
    ?assertEqual(Is, layout(Dir)).

%% A change that makes it longer, for each.
every_struct(Dir) ->
    Found = run(["cd ", Dir, "/c_src && grep -HE '^struct [a-z_0-9]+ [{]' core/*/* nif/*"]),
    Structs = [string:split(Line, ":") || Line <- string:lexemes(Found, "\n")],
    ?assert(length(Structs) > 40),
    [{File, "s/^" ++ Begin ++ "/&\\n    int more;/"} || [File, Begin] <- Structs].

layout_with(Dir, {File, Expression}) ->
    Path = filename:join([Dir, "c_src", File]),
    {ok, Before} = file:read_file(Path),
    ok = changed(Dir, File, Expression),
    Layout = layout(Dir),
    ok = file:write_file(Path, Before),
    Layout.

%% What threads keep to use again is the next library's: not kept once more for each. The plain library, whose
%% allocations the VM can count.
waiters_are_put_by_once(Config) ->
    Dirs = [copied(filename:dirname(filename:dirname(code:which(sockpool_nif))),
                   filename:join([?config(versions, Config), "kept" ++ integer_to_list(N), "sockpool"]),
                   "-L ebin priv") || N <- lists:seq(1, 4)],
    {ok, Vm, _} = peer:start(#{connection => standard_io, wait_boot => ?PATIENCE_MS,
                               args => ["+S", "2", "-pa", filename:join(hd(Dirs), "ebin")] ++ tests()}),
    try
        [First | Others] = peer:call(Vm, ?MODULE, put_by, [Dirs], ?PATIENCE_MS),
        ct:pal("~p allocations, then ~p", [First, Others]),
        ?assert(lists:last(Others) < First + 1000)
    after
        peer:stop(Vm)
    end.

%% Where this module and the kit are: one directory or two.
tests() ->
    lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [?MODULE, sockpool_test_server]]).

%% How many allocations of the NIF's there are after many have waited, in a pool of each library's own.
-spec put_by([file:filename()]) -> [non_neg_integer()].
put_by(Dirs) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [put_by(list_to_atom(Dir), filename:join(Dir, "ebin")) || Dir <- Dirs].

put_by(Name, Ebin) ->
    true = code:replace_path(sockpool, Ebin),
    accepted = take_over(Ebin, code:priv_dir(sockpool)),
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool(Name, (sockpool_test_server:target(Server))#{size => 1, max_overflow => 0,
                                                                               max_waiting => infinity}),
    {ok, Conn} = sockpool:checkout(Name, ?PATIENCE_MS),
    Waits = [start(fun() -> sockpool:checkout(Name, 500) end) || _ <- lists:seq(1, 2000)],
    [{error, timeout} = await(Wait) || Wait <- Waits],
    ok = sockpool:checkin(Conn),
    ok = sockpool:stop_pool(Name),
    {ok, {_, _, Origins}} = instrument:allocations(),
    lists:sum([lists:sum(tuple_to_list(Sizes)) || #{nif_internal := Sizes} <- maps:values(Origins)]).
