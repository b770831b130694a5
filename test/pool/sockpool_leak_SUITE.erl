%%% Leases that are held for longer than `leak_threshold': what the log says of them. When they are reported is tested in C
%%% (test/c/core/pool/test_sp_leak.c).
-module(sockpool_leak_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([its_owner/1, given_away/1, changed/1, of_a_worker/1, by_a_node_connection/1, client_elsewhere/1, asked_in_vain/1, c_node/1]).
-export([sits_on_it/2]).

-import(sockpool_test_util, [wait_until/1, stat/2]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, all}].

groups() ->
    [{all, [parallel], [its_owner, given_away, changed, of_a_worker, by_a_node_connection, client_elsewhere, asked_in_vain, c_node]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    %% Each is asked about.
    ok = application:set_env(sockpool, log_interval, 0),
    ok = sockpool_cluster:be_a_node(),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {backlog, 128}]),
    {ok, Port} = inet:port(Listener),
    Server = spawn(fun() -> accept(Listener) end),
    ok = gen_tcp:controlling_process(Listener, Server),
    [{server, Server}, {options, #{host => "127.0.0.1", port => Port, size => 2, leak_threshold => 1000}},
     {peer, sockpool_cluster:start_peer()} | Config].

end_per_suite(Config) ->
    exit(?config(server, Config), kill),
    ok = application:set_env(sockpool, log_interval, 10000),
    sockpool_cluster:stop_peer(?config(peer, Config)).

accept(Listener) ->
    {ok, _} = gen_tcp:accept(Listener),
    accept(Listener).

init_per_testcase(Case, Config) ->
    Pool = list_to_atom(lists:concat(["leak_", Case])),
    ok = sockpool_test_log:hear(Pool),
    [{pool, Pool} | Config].

end_per_testcase(_Case, Config) ->
    ok = sockpool_test_log:forget(?config(pool, Config)),
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

started(Config) -> started(Config, ?config(options, Config)).

started(Config, Options) ->
    ok = sockpool:start_pool(?config(pool, Config), Options),
    ?config(pool, Config).

%% Takes a connection, and gives it back when told.
sits_on_it(Pool, Parent) ->
    {ok, Conn} = sockpool:checkout(Pool, 30000),
    Parent ! {self(), Conn},
    receive done -> ok end,
    _ = sockpool:checkin(Conn),
    ok.

sitting(Node, Pool) ->
    Pid = spawn(Node, ?MODULE, sits_on_it, [Pool, self()]),
    receive {Pid, Conn} -> {Pid, Conn} after 60000 -> error(no_connection) end.

says(Line, Part) ->
    ?assertNotEqual(nomatch, string:find(Line, Part), Line).

its_owner(Config) ->
    Pool = started(Config),
    {Pid, _} = sitting(node(), Pool),
    Line = sockpool_test_log:next_line(),
    says(Line, lists:flatten(io_lib:format(": ~p has connection ", [Pid]))),
    says(Line, "sockpool_leak_SUITE:sits_on_it/2:"),
    ?assertEqual(1, stat(Pool, leaked)),
    Pid ! done,
    Ended = sockpool_test_log:next_line(),
    says(Ended, lists:flatten(io_lib:format("which ~p had", [Pid]))),
    ?assertEqual(1, stat(Pool, leaked)).

given_away(Config) ->
    Pool = started(Config),
    {Heir, _} = sitting(node(), Pool),
    {ok, Conn} = sockpool:checkout(Pool),
    true = register(leak_heir, Heir),
    ok = sockpool:give_away(Conn, Heir),
    Lines = [sockpool_test_log:next_line() || _ <- [1, 2]],
    [says(Line, lists:flatten(io_lib:format("~p has connection", [Heir]))) || Line <- Lines],
    [says(Line, "registered as leak_heir") || Line <- Lines],
    exit(Heir, kill),
    [says(sockpool_test_log:next_line(), "given back or closed") || _ <- [1, 2]].

changed(Config) ->
    Pool = started(Config, (?config(options, Config))#{leak_threshold => infinity}),
    {Pid, _} = sitting(node(), Pool),
    ok = sockpool:update(Pool, #{leak_threshold => 1000}),
    says(sockpool_test_log:next_line(), lists:flatten(io_lib:format("~p has connection", [Pid]))),
    Pid ! done.

of_a_worker(Config) ->
    Pool = started(Config, #{transport => worker, worker => {sockpool_test_worker, #{}}, size => 1, leak_threshold => 1000}),
    {Pid, _} = sitting(node(), Pool),
    says(sockpool_test_log:next_line(), lists:flatten(io_lib:format("~p has connection", [Pid]))),
    Pid ! done.

%% The process between is not the one that is meant.
by_a_node_connection(Config) ->
    #{node := Node} = ?config(peer, Config),
    Pool = started(Config, #{transport => node, node => Node, cookie => erlang:get_cookie(), size => 1, leak_threshold => 1000}),
    {Pid, _} = sitting(node(), Pool),
    Line = sockpool_test_log:next_line(),
    says(Line, lists:flatten(io_lib:format(": ~p has connection", [Pid]))),
    says(Line, "sockpool_leak_SUITE:sits_on_it/2:"),
    Pid ! done.

client_elsewhere(Config) ->
    #{node := Node} = ?config(peer, Config),
    Pool = started(Config),
    {Client, Conn} = sitting(Node, {Pool, node()}),
    Line = sockpool_test_log:next_line(),
    says(Line, lists:flatten(io_lib:format(": ~p has connection", [Client]))),
    says(Line, "sockpool_leak_SUITE:sits_on_it/2:"),
    {Heir, _} = sitting(Node, {Pool, node()}),
    Client ! done,
    says(sockpool_test_log:next_line(), "given back or closed"),
    says(sockpool_test_log:next_line(), lists:flatten(io_lib:format(": ~p has connection", [Heir]))),
    Heir ! done,
    ?assertEqual({error, closed}, sockpool:info(Conn)).

%% It is dead by then, which is not found out where its node hangs.
asked_in_vain(Config) ->
    Pool = started(Config),
    {Client, _} = sitting(node(), Pool),
    Line = sockpool_test_log:next_line(),
    says(Line, "has connection"),
    exit(Client, kill),
    says(sockpool_test_log:next_line(), "given back or closed"),
    %% Whoever is asked for has no answer: one that is gone.
    ok = sockpool_leak:report(Pool, 7, Client, 1, undefined),
    Short = sockpool_test_log:next_line(),
    ?assertEqual(lists:flatten(io_lib:format("sockpool ~p: ~p has connection 7 for 1 ms", [Pool, Client])), Short).

c_node(Config) ->
    sockpool_c_daemon:if_built(fun() ->
        #{node := Node} = Daemon = sockpool_c_daemon:start(),
        Pool = {?config(pool, Config), Node},
        ok = sockpool:start_pool(Pool, ?config(options, Config)),
        {Pid, _} = sitting(node(), Pool),
        Line = sockpool_c_daemon:await_line(Daemon, "event=leak "),
        [_, Id, Serial] = string:lexemes(pid_to_list(Pid), "<>."),
        says(Line, lists:concat(["node=", node(), " process=", Id, ".", Serial])),
        wait_until(fun() -> {ok, #{leaked := Leaked}} = sockpool:stats(Pool), Leaked =:= 1 end),
        Pid ! done,
        says(sockpool_c_daemon:await_line(Daemon, "event=leak_ended"), "held_ms="),
        0 = sockpool_c_daemon:stop(Daemon)
    end).
