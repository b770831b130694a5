%%% A server that cannot be reached: what the log and the statistics say of it, and how often, of pools of
%%% this VM and of the daemon. And what is no outage.
-module(sockpool_outage_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([one_outage/1, failing_now_and_then/1, names_the_server/1, telling_error/1, full_backlog/1, full_backlog_for_ever/1,
         step_of_a_handshake/1, fails_fast/1, fails_fast_when_all_is_lost/1, fails_fast_on_pipes/1, fails_fast_by_transport/1]).
-export([fails_fast_without_workers/1, step_of_init/1, starved_handshake/1]).

-import(sockpool_test_log, [next_line/0]).
-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1, unavailable/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, erlang}, {group, alone}].

%% An outage ends after five seconds, so all go on at once. Who needs all dirty schedulers is alone.
groups() ->
    Both = [one_outage, failing_now_and_then, names_the_server, telling_error, full_backlog, full_backlog_for_ever,
            step_of_a_handshake, fails_fast, fails_fast_when_all_is_lost, fails_fast_on_pipes, fails_fast_by_transport],
    [{erlang, [parallel], Both ++ [fails_fast_without_workers, step_of_init, {group, c}]}, {c, [parallel], Both},
     {alone, [starved_handshake]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(crypto),
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_group(c, Config) ->
    sockpool_c_daemon:if_built(fun() -> ok = sockpool_cluster:be_a_node(), [{kind, c} | Config] end);
init_per_group(_Erlang, Config) ->
    [{kind, erlang} | Config].

end_per_group(_Kind, _Config) -> ok.

%% A daemon for each case: what it has logged before is another's.
init_per_testcase(Case, Config) ->
    case ?config(kind, Config) of
        erlang ->
            ok = sockpool_test_log:hear(Case),
            [{pool, Case} | Config];
        c ->
            #{node := Node} = Daemon = sockpool_c_daemon:start(),
            [{pool, {Case, Node}}, {daemon, Daemon} | Config]
    end.

end_per_testcase(_Case, Config) ->
    Pool = ?config(pool, Config),
    _ = sockpool:stop_pool(Pool),
    case ?config(kind, Config) of
        erlang -> ok = sockpool_test_log:forget(Pool);
        c -> 0 = sockpool_c_daemon:stop(?config(daemon, Config))
    end.

%%% Outages.

one_outage(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Before = erlang:system_time(millisecond),
    Pool = pool(Config, sockpool_test_server:target(Server)),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    #{last_error_at := First, connect_failures := Failures} = stats(Pool),
    ?assert(Before =< First),
    wait_until(fun() -> stat(Pool, connect_failures) > Failures + 20 end),
    #{last_error_at := At} = stats(Pool),
    ?assert(First < At),
    ?assert(At =< erlang:system_time(millisecond)),
    ok = sockpool_test_server:up(Server),
    [Failed, Again] = logged(Config),
    assert_in(Failed, ["econnrefused", server_text(Server)]),
    assert_in(Failed, case ?config(kind, Config) of
                          erlang -> [": cannot connect to " ++ server_text(Server) ++ " (tcp, attempt 1, at "
                                     ++ server_text(Server) ++ "): econnrefused"];
                          c -> [" transport=tcp reason=\"econnrefused\" address=" ++ server_text(Server) ++ "\n"]
                      end),
    assert_in(Again, [server_text(Server), failures(Config, stat(Pool, connect_failures))]),
    ?assertMatch(#{last_error := econnrefused}, settled(Pool)).

%% Each time an attempt fails, and the next one works. It is one outage until that has come to rest.
failing_now_and_then(Config) ->
    Server = sockpool_test_server:start(),
    Pool = pool(Config, sockpool_test_server:target(Server)),
    ?assertMatch(#{last_error := undefined, last_error_at := undefined}, settled(Pool)),
    [begin
         Failures = stat(Pool, connect_failures),
         ok = sockpool_test_server:down(Server),
         wait_until(fun() -> ok = look(Pool), stat(Pool, connect_failures) > Failures end),
         ok = sockpool_test_server:up(Server),
         wait_until(fun() -> sockpool:request(Pool, "x", 1, 1000) =:= {ok, <<"x">>} end),
         %% Less than the 5 seconds after which an outage is over, and more than the second between two looks at that.
         receive after 1500 -> ok end
     end || _ <- lists:seq(1, 3)],
    [_, Again] = logged(Config),
    assert_in(Again, [failures(Config, stat(Pool, connect_failures))]),
    ok = sockpool_test_server:down(Server),
    wait_until(fun() -> stat(Pool, connecting) =:= 0 andalso stat(Pool, total) =:= 0 end),
    ok = sockpool_test_server:up(Server),
    ?assertMatch([_, _], logged(Config)).

%% Otherwise a connection that was used just now is not looked at for a second.
look(Pool) ->
    case sockpool:checkout(Pool, 0) of
        {ok, Conn} -> _ = sockpool:checkin(Conn), ok;
        {error, _} -> ok
    end.

names_the_server(Config) ->
    Hosts = ["127.0.0.1", {0, 0, 0, 0, 0, 0, 0, 1}, "no-such-host.invalid", {127, 0, 0, 2}],
    Pool = pool(Config, #{host => Hosts, port => 1}),
    Failed = failure(Config),
    assert_in(Failed, ["127.0.0.1:1, [::1]:1, no-such-host.invalid:1 and "]),
    assert_in(Failed, [case ?config(kind, Config) of
                           erlang -> " (tcp, attempt 1, at 127.0.0.2:1): ";
                           c -> " transport=tcp reason=\"econnrefused\" address=127.0.0.2:1\n"
                       end]),
    ok = sockpool:stop_pool(Pool),
    _ = pool(Config, #{transport => unix, path => "/no/such \"socket"}),
    assert_in(failure(Config), ["/no/such ", "enoent"]),
    ok = sockpool:stop_pool(Pool),
    _ = pool(Config, #{transport => node, node => 'b@127.0.0.1', port => 1}),
    Refused = failure(Config),
    assert_in(Refused, ["b@127.0.0.1", "econnrefused"]),
    assert_in(Refused, [case ?config(kind, Config) of
                            erlang -> " (node, attempt 1, at 127.0.0.1:1): ";
                            c -> " transport=node reason=\"econnrefused\" address=127.0.0.1:1\n"
                        end]).

%% An address to which there is no way from here says nothing of the server, whichever is tried last. (No
%% socket of IPv6 can have that local address. Nobody is asked for a name with a label of 64 letters.)
telling_error(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    NoName = lists:duplicate(64, $x) ++ ".invalid",
    Pool = pool(Config, #{host => [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}, NoName],
                          port => sockpool_test_server:port(Server), bind => {127, 0, 0, 1}}),
    Told = [begin
                Failures = stat(Pool, connect_failures),
                wait_until(fun() -> stat(Pool, connect_failures) > Failures end),
                stat(Pool, last_error)
            end || _ <- lists:seq(1, 9)],
    ?assertEqual([econnrefused], lists:usort(Told)),
    ?assertEqual(econnrefused, unavailable(Pool)).

%%% A server that is busy for a while.

%% Nobody is turned away, and nothing is logged.
full_backlog(Config) ->
    {Path, Listen} = crowded(),
    Pool = pool(Config, #{transport => unix, path => Path, size => 50, connect_timeout => 30000}),
    wait_until(fun() -> stat(Pool, connecting) =:= 48 orelse stats(Pool) end),
    Jobs = [start(fun() -> sockpool:request(Pool, "x", 1, 30000) end) || _ <- lists:seq(1, 60)],
    Server = spawn_link(fun() -> accept_and_echo(Listen) end),
    ?assertEqual([{ok, <<"x">>}], lists:usort([await(Job) || Job <- Jobs])),
    ?assertMatch(#{created := 50, connect_attempts := 50, connect_failures := 0,
                   last_error := undefined}, settled(Pool)),
    ok = sockpool:stop_pool(Pool),
    true = unlink(Server),
    exit(Server, kill),
    %% The first that is logged is what comes now.
    _ = pool(Config, #{transport => unix, path => "/no/such/socket"}),
    assert_in(failure(Config), ["/no/such/socket"]).

full_backlog_for_ever(Config) ->
    {Path, _Listen} = crowded(),
    Pool = pool(Config, #{transport => unix, path => Path, size => 5, connect_timeout => 200}),
    Held = [Conn || _ <- [1, 2], {ok, Conn} <- [sockpool:checkout(Pool, 10000)]],
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    [ok = sockpool:discard(Conn) || Conn <- Held],
    ?assertEqual(eagain, unavailable(Pool)).

%% A listener that two connect to before it accepts anybody.
crowded() ->
    Path = sockpool_test_util:unix_path(),
    {ok, Listen} = gen_tcp:listen(0, [{ifaddr, {local, Path}}, {backlog, 1}, {active, false}, binary]),
    {Path, Listen}.

accept_and_echo(Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    ok = gen_tcp:controlling_process(Socket, spawn_link(fun() -> echo(Socket) end)),
    accept_and_echo(Listen).

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} -> ok = gen_tcp:send(Socket, Data), echo(Socket);
        {error, closed} -> ok
    end.

%%% At which step the time was over.

step_of_a_handshake(Config) ->
    Server = sockpool_test_server:start(silent),
    Pool = pool(Config, (sockpool_test_server:target(Server))#{transport => tls, connect_timeout => 200}),
    %% The pool's name has the word, too.
    assert_in(failure(Config), ["timeout", case ?config(kind, Config) of
                                               erlang -> "(in the handshake)";
                                               c -> "step=handshake"
                                           end]),
    ?assertEqual(timeout, unavailable(Pool)).

step_of_init(Config) ->
    Server = sockpool_test_server:start(),
    Hang = fun(_) -> receive after infinity -> ok end end,
    Pool = pool(Config, (sockpool_test_server:target(Server))#{init => Hang, connect_timeout => 200}),
    assert_in(failure(Config), ["timeout", "in init"]),
    ?assertEqual(timeout, unavailable(Pool)).

%%% fail_fast. Whoever waits here, waits for ever.

-define(REFUSED, {error, {unavailable, econnrefused}}).

fails_fast(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Pool = pool(Config, (sockpool_test_server:target(Server))#{fail_fast => true, packet => line, max_waiting => 1}),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    Never = fun(_Conn) -> error(called) end,
    ?assertEqual([?REFUSED || _ <- lists:seq(1, 5)],
                 [sockpool:checkout(Pool, infinity), sockpool:checkout(Pool, 0), sockpool:request(Pool, "x\n", packet, infinity),
                  sockpool:request(Pool, "x\n", packet, 0), sockpool:execute(Pool, Never, infinity)]),
    ?assertEqual([?REFUSED, ?REFUSED], sockpool:request_many(Pool, ["x\n", "y\n"], packet, infinity)),
    ?assertError({checkout, {unavailable, econnrefused}}, sockpool:transaction(Pool, Never, infinity)),
    ?assertMatch(#{waiting := 0, timeouts := 0}, stats(Pool)),
    ok = sockpool_test_server:up(Server),
    wait_until(fun() -> sockpool:request(Pool, "x\n", packet, infinity) =:= {ok, <<"x\n">>} end).

%% Of those that wait for a connection that somebody has, since one more could not be made.
fails_fast_when_all_is_lost(Config) ->
    Server = sockpool_test_server:start(),
    Pool = pool(Config, (sockpool_test_server:target(Server))#{fail_fast => true, checkout_timeout => infinity}),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiters = [start(fun() -> sockpool:checkout(Pool) end), start(fun() -> sockpool:request(Pool, "x", 1, infinity) end)],
    wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    ok = sockpool_test_server:down(Server),
    ok = sockpool:discard(Conn),
    ?assertEqual([?REFUSED, ?REFUSED], [await(Waiter) || Waiter <- Waiters]),
    ?assertMatch(#{waiting := 0, timeouts := 0}, stats(Pool)).

fails_fast_on_pipes(Config) ->
    Server = sockpool_test_server:start(),
    Pool = pool(Config, (sockpool_test_server:target(Server))#{fail_fast => true, packet => line, pipeline => 8}),
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    Waiter = start(fun() -> sockpool:request(Pool, "x\n", packet, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool_test_server:down(Server),
    ok = sockpool:discard(Conn),
    ?assertEqual(?REFUSED, await(Waiter)),
    ?assertEqual([?REFUSED, ?REFUSED], [sockpool:request(Pool, "x\n", packet, Time) || Time <- [infinity, 0]]),
    ?assertEqual([?REFUSED, ?REFUSED], sockpool:request_many(Pool, ["x\n", "y\n"], packet, infinity)),
    ok = sockpool_test_server:up(Server),
    wait_until(fun() -> sockpool:request(Pool, "x\n", packet, infinity) =:= {ok, <<"x\n">>} end).

fails_fast_by_transport(Config) ->
    Node = list_to_atom("nobody@" ++ lists:last(string:split(atom_to_list(node()), "@"))),
    [begin
         Pool = pool(Config, Opts#{fail_fast => true}),
         wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
         ?assertMatch({error, {unavailable, Reason}} when Reason =/= timeout, sockpool:checkout(Pool, infinity)),
         ok = sockpool:stop_pool(Pool)
     end || Opts <- [#{transport => tls, host => {127, 0, 0, 1}, port => 1}, #{transport => unix, path => "/nonexistent/socket"},
                     #{transport => node, node => Node, cookie => cookie, port => 1}]].

fails_fast_without_workers(Config) ->
    Pool = pool(Config, #{transport => worker, worker => fun() -> {error, tired} end, fail_fast => true}),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    ?assertEqual({error, {unavailable, {worker, tired}}}, sockpool:checkout(Pool, infinity)).

%% Dirty schedulers that others keep busy. The server is well, and comes up when they are done.
starved_handshake(Config) ->
    Server = sockpool_tls_peers:s_server(
               sockpool_tls_kit:s_identity(sockpool_tls_kit:with_certificates(Config), "server")),
    Busy = occupied(10, 800),
    Pool = pool(Config, #{transport => tls, host => "127.0.0.1", port => sockpool_tls_peers:port(Server),
                          connect_timeout => 400, tls => #{verify => none}}),
    Starved = {timeout, dirty_schedulers},
    wait_until(fun() ->
                       Told = sockpool:checkout(Pool, 300),
                       Told =:= {error, {unavailable, Starved}} orelse {Told, sockpool:stats(Pool)}
               end),
    wait_until(fun() -> stat(Pool, last_error) =:= Starved end),
    ?assertNotEqual(nomatch, string:find(sockpool:format_error({unavailable, Starved}), "dirty")),
    [begin true = unlink(Pid), exit(Pid, kill) end || Pid <- Busy],
    {ok, Conn} = sockpool:checkout(Pool, 30000),
    ok = sockpool:checkin(Conn).

%% With so many who compute that each call waits that long for a dirty scheduler.
occupied(Count, LongMs) ->
    Busy = [spawn_link(fun compute/0) || _ <- lists:seq(1, Count * erlang:system_info(dirty_cpu_schedulers))],
    case timer:tc(fun some_milliseconds/0) of
        {Us, _} when Us > LongMs * 1000 -> Busy;
        _ -> Busy ++ occupied(2 * Count, LongMs)
    end.

compute() ->
    _ = some_milliseconds(),
    compute().

%% Of a dirty scheduler.
some_milliseconds() -> crypto:generate_key(rsa, {1024, 65537}).

%%% The log.

pool(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(#{size => 1, max_overflow => 0, backoff => {1, 5}}, Opts)),
    Pool.

%% The lines about connecting, up to the one that it works again.
logged(Config) -> logged(?config(kind, Config), Config).

logged(erlang, Config) ->
    Line = next_line(),
    case string:find(Line, "connected again") of
        nomatch -> [Line | logged(erlang, Config)];
        _ -> [Line]
    end;
logged(c, Config) ->
    Lines = sockpool_c_daemon:lines_until(?config(daemon, Config), "event=connected_again"),
    [Line || Line <- Lines, string:find(Line, "connect") =/= nomatch].

failure(Config) -> failure(?config(kind, Config), Config).

failure(erlang, _Config) -> next_line();
failure(c, Config) -> sockpool_c_daemon:await_line(?config(daemon, Config), "event=cannot_connect").

assert_in(Line, Parts) ->
    [?assertNotEqual({nomatch, Part, Line}, {string:find(Line ++ "\n", Part), Part, Line}) || Part <- Parts].

failures(Config, Count) ->
    case ?config(kind, Config) of
        erlang -> lists:concat(["after ", Count, " failures"]);
        c -> lists:concat(["failures=", Count, "\n"])
    end.

server_text(Server) -> lists:concat(["127.0.0.1:", sockpool_test_server:port(Server)]).
