%%% Code that is loaded again, deleted, missing, or not to be used: what goes on, what comes back by itself, and
%%% what is said.
-module(sockpool_code_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_test_util, [wait_until/1, settled/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [two_loads_without_a_message, two_loads_of_what_is_waited_in, server_of_before, client_of_before_dies,
     the_library_made_anew, funs_of_code_that_is_gone, no_library, library_in_an_archive, not_a_library, wrong_environment,
     supervisor_ends_though_an_end_was_heard].

init_per_suite(Config) -> sockpool_tls_kit:with_certificates(Config).

end_per_suite(_Config) -> ok.

init_per_testcase(Case, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Server = sockpool_test_server:start(),
    Options = (sockpool_test_server:target(Server))#{size => 2, max_overflow => 0, backoff => {1, 10}},
    ok = sockpool:start_pool(Case, Options),
    _ = settled(Case),
    [{pool, Case}, {options, Options} | Config].

end_per_testcase(_Case, _Config) ->
    application:stop(sockpool).

%%% Loaded again.

processes_of_sockpool() ->
    [whereis(Name) || Name <- [sockpool_sup, sockpool, sockpool_janitor]].

%% The second time, whoever still runs the first version is killed.
load_twice(Module) ->
    [begin
         _ = code:purge(Module),
         {module, Module} = code:load_file(Module)
     end || _ <- [1, 2]],
    _ = code:purge(Module).

echo(Lease) ->
    ok = sockpool_remote:send(Lease, <<"lease">>, 5000),
    {ok, <<"lease">>} = sockpool_remote:recv(Lease, 5, 5000),
    ok.

two_loads_without_a_message(Config) ->
    Pool = ?config(pool, Config),
    %% As a client of another node has it.
    {ok, Lease} = sockpool_remote:checkout(node(), Pool, 5000),
    ok = echo(Lease),
    Before = {processes_of_sockpool(), sockpool:stats(Pool)},
    [load_twice(Module) || Module <- [sockpool_server, sockpool_session, sockpool_sup, sockpool_janitor,
                                      sockpool_pool, sockpool_connector, sockpool_remote, sockpool_node_conn]],
    ?assertEqual(Before, {processes_of_sockpool(), sockpool:stats(Pool)}),
    ok = echo(Lease),
    ok = sockpool_remote:checkin(Lease).

%% Soon after its last message the server waits nowhere.
two_loads_of_what_is_waited_in(_Config) ->
    Before = processes_of_sockpool(),
    wait_until(fun() -> process_info(whereis(sockpool), current_function)
                            =:= {current_function, {erlang, hibernate, 3}} end),
    load_twice(sockpool_wait),
    ?assertEqual(Before, processes_of_sockpool()),
    ?assertMatch([_ | _], gen_server:call(sockpool, which_pools)).

%% What goes on with the state of a release before: its leases live, and so does what changes its code by sys.
server_of_before(Config) ->
    Pool = ?config(pool, Config),
    [begin
         {Server, Lease} = goes_on_from_before(GoOn, Pool, self()),
         Call = fun(Request) -> gen_server:call(Server, Request) end,
         ?assertEqual({ok, {infinity, infinity}}, Call({timeouts, Lease})),
         ?assertEqual(ok, Call({send, Lease, <<"lease">>, 5000})),
         ok = sys:suspend(Server),
         ok = sys:change_code(Server, sockpool_server, before, []),
         ok = sys:resume(Server),
         ?assertEqual({ok, <<"lease">>}, Call({recv, Lease, 5, 5000})),
         ?assertEqual(ok, Call({checkin, Lease})),
         ?assertEqual({error, closed}, Call({checkin, Lease})),
         unlink(Server),
         exit(Server, kill)
     end || GoOn <- ways_to_go_on()],
    ?assertMatch(#{leased := 0, abandoned := 0}, settled(Pool)).

%% It is watched still.
client_of_before_dies(Config) ->
    Pool = ?config(pool, Config),
    [begin
         Client = spawn(fun() -> receive never -> ok end end),
         {Server, Lease} = goes_on_from_before(GoOn, Pool, Client),
         ?assertEqual({error, not_owner}, gen_server:call(Server, {info, Lease})),
         exit(Client, kill),
         wait_until(fun() -> sockpool_test_util:stat(Pool, abandoned) =:= Before + 1 end),
         ?assertEqual({error, closed}, gen_server:call(Server, {info, Lease})),
         unlink(Server),
         exit(Server, kill)
     end || {Before, GoOn} <- lists:zip([0, 1], ways_to_go_on())],
    ?assertMatch(#{leased := 0, abandoned := 2}, settled(Pool)).

ways_to_go_on() ->
    Self = self(),
    [fun sockpool_server:loop/1, fun(State) -> sockpool_server:system_continue(Self, [], State) end].

%% A server with the state of a release before, in which the client has a lease.
goes_on_from_before(GoOn, Pool, Client) ->
    Self = self(),
    Incarnation = make_ref(),
    Server = spawn_link(fun() ->
        process_flag(trap_exit, true),
        Server = self(),
        Holder = spawn_link(fun() ->
                                    {ok, Conn} = sockpool:checkout(Pool),
                                    Self ! holds,
                                    sockpool_session:serve(Server, Conn)
                            end),
        Id = make_ref(),
        Monitor = monitor(process, Client),
        GoOn({state, Self, Incarnation, 2, #{Holder => {job, Client, Id, 1, {Client, make_ref()}}},
              #{Id => Holder}, #{1 => Holder}, #{Client => {Monitor, #{Holder => []}}}})
    end),
    receive holds -> ok end,
    {Server, {'$sockpool_lease', node(), Incarnation, 1}}.

%%% Deleted.

%% Its resources are no longer those of the module.
the_library_made_anew(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(stopped, ?config(options, Config)),
    ok = sockpool:stop_pool(stopped),
    {ok, Held} = sockpool:checkout(Pool),
    true = code:delete(sockpool_nif),
    _ = code:purge(sockpool_nif),
    {module, sockpool_nif} = code:load_file(sockpool_nif),
    %% The pool's process finds out at its next tick, and its successor makes the pool anew.
    wait_until(fun() -> sockpool_test_util:pools() =:= [Pool] end),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)),
    ?assertMatch({error, {bad_argument, conn, _}}, sockpool:checkin(Held)),
    ?assertEqual([{error, not_found} || _ <- [1, 2, 3, 4, 5]],
                 [sockpool:checkout(stopped), sockpool:request(stopped, "x", 1, 1000), sockpool:stats(stopped),
                  sockpool:reload_tls(stopped), sockpool:call(stopped, erlang, node, [], 1000)]),
    ok = sockpool:start_pool(stopped, ?config(options, Config)),
    ?assertEqual({ok, <<"again">>}, sockpool:request(stopped, "again", 5, 5000)),
    ?assertMatch(#{idle := 2}, settled(Pool)).

%%% Funs.

%% A fun of a module's own is gone when that was loaded twice since.
funs_of_code_that_is_gone(Config) ->
    Module = sockpool_code_of_a_user,
    ok = load_version(Module, 1),
    Options = maps:merge(?config(options, Config), #{size => 1, backoff => {1, 20}}),
    Tls = #{cacertfile => sockpool_tls_kit:pem(Config, "ca"), password => Module:local(0)},
    ok = sockpool:start_pool(inits, Options#{init => Module:local(1)}),
    ok = sockpool:start_pool(secret, Options#{transport => tls, tls => Tls, size => 0, max_overflow => 1}),
    ?assertEqual({ok, <<"works">>}, sockpool:request(inits, "works", 5, 5000)),
    ok = load_version(Module, 2),
    ok = load_version(Module, 3),
    {ok, Conn} = sockpool:checkout(inits),
    ok = sockpool:discard(Conn),
    ?assertEqual({init, badfun}, sockpool_test_util:unavailable(inits)),
    ?assertEqual({error, {tls, {password, badfun}}}, sockpool:reload_tls(secret)),
    [?assertMatch({match, _}, re:run(sockpool:format_error(Reason), Says))
     || {Reason, Says} <- [{{init, badfun}, "init.*fun Module:Function/1"},
                           {{tls, {password, badfun}}, "password.*fun Module:Function/0"},
                           {{cookie, badfun}, "cookie.*fun Module:Function/0"}]],
    %% And so it is mended.
    ok = sockpool:stop_pool(inits),
    ok = sockpool:start_pool(inits, Options#{init => fun Module:init/1}),
    ok = load_version(Module, 4),
    ok = load_version(Module, 5),
    {ok, Other} = sockpool:checkout(inits),
    ok = sockpool:discard(Other),
    ?assertEqual({ok, <<"works">>}, sockpool:request(inits, "works", 5, 5000)).

load_version(Module, N) ->
    Source = io_lib:format("-module(~p). -export([local/1, init/1]). "
                           "local(1) -> fun(_) -> ~b, ok end; local(0) -> fun() -> \"~b\" end. "
                           "init(_) -> ok.", [Module, N, N]),
    {ok, Module, Beam} = compile:forms(forms(lists:flatten(Source)), []),
    _ = code:purge(Module),
    {module, Module} = code:load_binary(Module, "user.erl", Beam),
    ok.

forms(Source) ->
    {ok, Tokens, _} = erl_scan:string(Source),
    [begin {ok, Form} = erl_parse:parse_form(Form0), Form end || Form0 <- split(Tokens, [])].

split([], []) -> [];
split([{dot, _} = Dot | Rest], Form) -> [lists:reverse([Dot | Form]) | split(Rest, [])];
split([Token | Rest], Form) -> split(Rest, [Token | Form]).

%%% A start of the application that fails.

%% In a VM that finds sockpool in that directory.
start_from(Ebin) ->
    {ok, Control, _} = peer:start(#{connection => standard_io,
                                    args => ["-pa", Ebin, "-kernel", "logger_level", "emergency"]}),
    try
        {error, {sockpool, {{Words, Reason}, _}}} = Told =
            peer:call(Control, application, ensure_all_started, [sockpool]),
        ?assertEqual(Words, peer:call(Control, lists, flatten, [peer:call(Control, sockpool_error, format, [Told])])),
        ?assertEqual(undefined, peer:call(Control, erlang, whereis, [sockpool_sup])),
        Reason
    after
        peer:stop(Control)
    end.

words(Reason) -> unicode:characters_to_list(sockpool:format_error(Reason)).

copied(Config, Name) ->
    Dir = filename:join([?config(priv_dir, Config), Name, "sockpool"]),
    sockpool_test_util:with_library_copied(Dir, fun(_) -> ok end),
    Dir.

no_library(Config) ->
    Dir = copied(Config, "none"),
    ok = file:del_dir_r(filename:join(Dir, "priv")),
    {library, Path, Text} = Reason = start_from(filename:join(Dir, "ebin")),
    ?assertEqual(filename:join([Dir, "priv", "sockpool_nif"]), Path),
    ?assertMatch({match, _}, re:run(Text, "No such file")),
    ?assertMatch({match, _}, re:run(words(Reason), "is made when sockpool is compiled")).

not_a_library(Config) ->
    Dir = copied(Config, "other"),
    ok = file:write_file(filename:join([Dir, "priv", "sockpool_nif.so"]), "no library"),
    {library, _, _} = Reason = start_from(filename:join(Dir, "ebin")),
    ?assertMatch({match, _}, re:run(words(Reason), "built for this system")).

%% As in an escript.
library_in_an_archive(Config) ->
    Dir = copied(Config, "archived"),
    Archive = filename:join(?config(priv_dir, Config), "sockpool.ez"),
    {ok, _} = zip:create(Archive, ["sockpool"], [{cwd, filename:dirname(Dir)}]),
    {library, Path, _} = Reason = start_from(filename:join([Archive, "sockpool", "ebin"])),
    ?assertEqual(filename:join([Archive, "sockpool", "priv", "sockpool_nif"]), Path),
    ?assertMatch({match, _}, re:run(words(Reason), "within .*sockpool.ez, an archive")).

%% Said in words, which are about the pool and its option.
wrong_environment(_Config) ->
    ok = application:stop(sockpool),
    Tls = #{transport => tls, host => "localhost", port => 1, tls => #{cacertfile => "/no/such"}},
    [begin
         ok = application:set_env(sockpool, pools, Pools),
         ok = sockpool_test_log:hear(?MODULE, ?MODULE, #{config => self(), level => notice}),
         Result = application:start(sockpool),
         ok = sockpool_test_log:forget(?MODULE),
         ok = application:unset_env(sockpool, pools),
         {error, {{Words, Reason}, {sockpool_app, start, _}}} = Result,
         ?assertEqual(Words, lists:flatten(sockpool:format_error(Result))),
         ?assertNotEqual(nomatch, receive {exited, Said} -> string:find(Said, lists:flatten(io_lib:format("~tp", [Words]))) end),
         ?assertEqual([], [Says || Says <- All, not lists:any(fun(Line) -> re:run(Line, Says) =/= nomatch end,
                                                              lines())]),
         ?assertEqual(undefined, whereis(sockpool_sup))
     end || {Pools, Reason, All} <-
                [{#{api => Tls}, {pool, api, {tls, {cacertfile, enoent}}},
                  ["sockpool does not start: pool api of its environment: tls option cacertfile"]},
                 {#{api => #{}}, {pool, api, {bad_option, host, undefined}},
                  ["sockpool does not start: pool api of its environment: option host"]},
                 {[api], {bad_option, pools, not_a_map}, ["sockpool does not start: .* no map of names"]}]].

%% What is logged in words, as a message to the case.
log(#{msg := {Format, Args}}, #{config := Pid}) when is_list(Args) ->
    Pid ! {logged, lists:flatten(io_lib:format(Format, Args))};
%% What is said of the end of an application, which is all that a release that does not start says.
log(#{msg := {report, #{label := {application_controller, exit}, report := Report}}}, #{config := Pid}) ->
    Pid ! {exited, lists:flatten(io_lib:format("~0tp", [proplists:get_value(exited, Report)]))};
log(Event, #{config := Pid}) ->
    case sockpool_test_log:line(Event) of
        {ok, Line} -> Pid ! {logged, Line};
        none -> ok
    end.

lines() ->
    receive
        {logged, Line} -> [Line | lines()]
    after 0 ->
        []
    end.

%% As where it crashes over the end of a child, because code for that is missing: the exit does not come again.
supervisor_ends_though_an_end_was_heard(_Config) ->
    {Gone, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Gone, _} -> ok end,
    _ = sys:replace_state(sockpool_sup, fun({state, Children, Ids}) -> {state, Children, Ids#{Gone => {sockpool, gone}}} end),
    Stopper = sockpool_test_util:start(fun() -> application:stop(sockpool) end),
    ?assertEqual(ok, sockpool_test_util:await(Stopper, 20000)).
