%%% Pools that crash, are stopped, restarted or upgraded while they are in use.
-module(sockpool_lifecycle_SUITE).
-behaviour(supervisor).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([init/1]).
-export([crash_tells_everybody/1, crash_for_good_tells_everybody/1, crashes_under_load/1,
         crash_while_connecting/1]).
-export([stop_tells_everybody/1, supervisor_shutdown_tells_everybody/1,
         application_stop_tells_everybody/1, stop_and_start_under_load/1, nothing_left_after_stops/1]).
-export([restart_with_other_options/1]).
-export([code_reloaded_under_load/1, upgrade_to_another_library/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, run_all/1,
                             assert_no_messages/0]).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [crash_tells_everybody, crash_for_good_tells_everybody, crashes_under_load,
     crash_while_connecting, stop_tells_everybody, supervisor_shutdown_tells_everybody, application_stop_tells_everybody,
     stop_and_start_under_load, nothing_left_after_stops, restart_with_other_options,
     code_reloaded_under_load, upgrade_to_another_library].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> ok.

init_per_testcase(Case, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [{pool, Case} | Config].

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()),
    application:stop(sockpool).

%% A supervisor of the user's own that lets its pools crash as often as they like.
init(Specs) ->
    {ok, {#{strategy => one_for_one, intensity => 1000, period => 1}, Specs}}.

own_supervisor(Spec) ->
    {ok, Supervisor} = supervisor:start_link(?MODULE, [Spec]),
    unlink(Supervisor),
    Supervisor.

pool_process(Supervisor) ->
    case supervisor:which_children(Supervisor) of
        [{_, Pid, _, _}] when is_pid(Pid) -> Pid;
        [{_, restarting, _, _}] -> pool_process(Supervisor)
    end.

%%% Everybody who has to do with the pool at the moment when it goes.

%% One of each: holds a connection, waits in recv, in send, in a request for its reply, for a
%% connection, and with a request for a connection.
users(Pool) ->
    Parent = self(),
    Data = binary:copy(<<"x">>, 20000000),
    Use = fun(Role) ->
                  start(fun() ->
                                {ok, Conn} = sockpool:checkout(Pool, 5000),
                                Parent ! has_one,
                                Result = Role(Conn),
                                Closed = {error, closed},
                                Closed = sockpool:send(Conn, "x"),
                                Closed = sockpool:recv(Conn, 1),
                                Closed = sockpool:checkin(Conn),
                                ok = assert_no_messages(),
                                Result
                        end)
          end,
    Holder = Use(fun(Conn) -> receive Gone -> told(Gone, Conn) end end),
    Reader = Use(fun(Conn) -> sockpool:recv(Conn, 1, infinity) end),
    Writer = Use(fun(Conn) -> sockpool:send(Conn, Data, infinity) end),
    [receive has_one -> ok end || _ <- [Holder, Reader, Writer]],
    Requester = start(fun() -> quiet(sockpool:request(Pool, "x", 1, infinity)) end),
    wait_until(fun() -> stat(Pool, leased) =:= 4 end),
    Waiter = start(fun() -> quiet(sockpool:checkout(Pool, infinity)) end),
    Queued = start(fun() -> quiet(sockpool:request(Pool, "x", 1, infinity)) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    wait_until(fun() -> lists:all(fun waits/1, [Reader, Writer, Requester]) end),
    {Holder, [Reader, Writer, Requester], [Waiter, Queued]}.

quiet(Result) ->
    ok = assert_no_messages(),
    Result.

%% A stop has ended every lease when it returns. After a crash the leases are ended one after another.
told(stopped, Conn) ->
    sockpool:info(Conn);
told(crashed, Conn) ->
    wait_until(fun() -> sockpool:info(Conn) =:= {error, closed} end),
    {error, closed}.

waits({Pid, _, _}) -> process_info(Pid, status) =:= {status, waiting}.

assert_told({Holder, Blocked, Waiting}, Reason) ->
    [?assertEqual({error, closed}, await(Job)) || Job <- Blocked],
    [?assertEqual({error, Reason}, await(Job)) || Job <- Waiting],
    element(1, Holder) ! case Reason of draining -> stopped; closed -> crashed end,
    ?assertEqual({error, closed}, await(Holder)).

full_pool(Server) ->
    (sockpool_test_server:target(Server))#{size => 4, max_overflow => 0, backoff => {1, 10}}.

%%% Crashes.

crash_tells_everybody(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(sink),
    Before = sockpool_test_util:descriptors(),
    {ok, Pid} = sockpool_test_util:start_pool(Pool, full_pool(Server)),
    _ = settled(Pool),
    Users = users(Pool),
    exit(Pid, kill),
    assert_told(Users, closed),
    ?assertMatch(#{total := 4, created := 8, closed := 4}, settled(Pool)),
    descriptors_are(Before, 4, Server),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "works"),
    ok = sockpool:discard(Conn).

%% Nobody starts it again; the janitor does what is left to do.
crash_for_good_tells_everybody(Config) ->
    Pool = ?config(pool, Config),
    goes(Pool, fun(Options) ->
                       {ok, Pid} = sockpool:start_link(Pool, Options),
                       unlink(Pid),
                       Pid
               end,
         fun(Pid) -> exit(Pid, kill), ok end, closed).

crashes_under_load(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Supervisor = own_supervisor(sockpool:child_spec(Pool, full_pool(Server))),
    _ = settled(Pool),
    Workers = start_workers(Pool),
    [begin
         wait_for_replies(Workers, 50),
         exit(pool_process(Supervisor), kill)
     end || _ <- lists:seq(1, 50)],
    wait_for_replies(Workers, 50),
    Kinds = stop_workers(Workers),
    ?assertEqual([], Kinds -- [ok, closed, econnreset, draining, not_found]),
    ?assertMatch(#{total := 4, waiting := 0, leased := 0}, settled(Pool)),
    wait_until(fun() -> sockpool_test_server:live(Server) =:= 4 end),
    ok = gen_server:stop(Supervisor).

%% Connectors of the old process must not add to the new one's connections.
crash_while_connecting(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Parent = self(),
    Init = fun(_) ->
                   Parent ! {connecting, self()},
                   receive go -> ok end
           end,
    Spec = sockpool:child_spec(Pool, (full_pool(Server))#{init => Init}),
    Supervisor = own_supervisor(Spec),
    Old = [receive {connecting, Pid} -> Pid end || _ <- lists:seq(1, 4)],
    exit(pool_process(Supervisor), kill),
    New = [receive {connecting, Pid} -> Pid end || _ <- lists:seq(1, 4)],
    [Pid ! go || Pid <- Old ++ New],
    ?assertMatch(#{total := 4, created := 4}, settled(Pool)),
    wait_until(fun() -> sockpool_test_server:live(Server) =:= 4 end),
    wait_until(fun() -> not lists:any(fun is_process_alive/1, Old) end),
    ok = gen_server:stop(Supervisor).

%%% Stops.

stop_tells_everybody(Config) ->
    Pool = ?config(pool, Config),
    goes(Pool, fun(Options) -> ok = sockpool:start_pool(Pool, Options), Pool end,
         fun sockpool:stop_pool/1, draining).

supervisor_shutdown_tells_everybody(Config) ->
    Pool = ?config(pool, Config),
    goes(Pool, fun(Options) -> own_supervisor(sockpool:child_spec(Pool, Options)) end,
         fun gen_server:stop/1, draining).

application_stop_tells_everybody(Config) ->
    Pool = ?config(pool, Config),
    goes(Pool, fun(Options) -> ok = sockpool:start_pool(Pool, Options), sockpool end,
         fun application:stop/1, draining).

goes(Pool, Start, Stop, Reason) ->
    Server = sockpool_test_server:start(sink),
    Before = sockpool_test_util:descriptors(),
    Started = Start(full_pool(Server)),
    _ = settled(Pool),
    Users = users(Pool),
    ok = Stop(Started),
    assert_told(Users, Reason),
    ?assertNot(lists:member(Pool, sockpool_test_util:pools())),
    ?assertEqual({error, case Reason of draining -> not_found; closed -> closed end},
                 sockpool:checkout(Pool)),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)),
    descriptors_are(Before, 0, Server).

%% The pool has so many open, and the server, which does not read and so sees no end, all of its.
descriptors_are(unknown, _Own, _Server) ->
    ok;
descriptors_are(Before, Own, Server) ->
    wait_until(fun() ->
                       Now = sockpool_test_util:descriptors(),
                       Now =:= Before + Own + sockpool_test_server:accepted(Server)
                           orelse {Before, Now}
               end).

stop_and_start_under_load(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool(Pool, full_pool(Server)),
    Workers = start_workers(Pool),
    [begin
         wait_for_replies(Workers, 50),
         ok = sockpool:stop_pool(Pool),
         ok = sockpool:start_pool(Pool, full_pool(Server))
     end || _ <- lists:seq(1, 50)],
    wait_for_replies(Workers, 50),
    Kinds = stop_workers(Workers),
    ?assertEqual([], Kinds -- [ok, closed, econnreset, draining, not_found]),
    ?assertMatch(#{total := 4, waiting := 0, leased := 0}, settled(Pool)),
    wait_until(fun() -> sockpool_test_server:live(Server) =:= 4 end).

%% 20 processes that work until told to stop. What they get they count, and each reply is theirs.
start_workers(Pool) ->
    Replies = counters:new(1, []),
    {Replies, [start(fun() -> work(Pool, Replies, []) end) || _ <- lists:seq(1, 20)]}.

work(Pool, Replies, Kinds) ->
    receive
        stop ->
            ok = assert_no_messages(),
            Kinds
    after 0 ->
        Kind = case rand:uniform(2) of
                   1 -> request(Pool);
                   2 -> checkout(Pool)
               end,
        _ = Kind =:= ok andalso counters:add(Replies, 1, 1),
        work(Pool, Replies, lists:usort([Kind | Kinds]))
    end.

request(Pool) ->
    Id = id(),
    own(Id, sockpool:request(Pool, Id, byte_size(Id), 10000)).

checkout(Pool) ->
    case sockpool:execute(Pool, fun use/1, 10000) of
        {ok, Kind} -> Kind;
        {error, Reason} -> Reason
    end.

use(Conn) ->
    Id = id(),
    case sockpool:send(Conn, Id) of
        ok -> own(Id, sockpool:recv(Conn, byte_size(Id)));
        {error, Reason} -> Reason
    end.

own(Id, {ok, Id}) -> ok;
own(_Id, {error, Reason}) -> Reason;
own(Id, {ok, Other}) -> error({reply_of_another, Id, Other}).

id() -> (sockpool_test_util:ids(30))().

wait_for_replies({Replies, _}, More) ->
    Target = counters:get(Replies, 1) + More,
    wait_until(fun() -> counters:get(Replies, 1) >= Target end).

stop_workers({_, Workers}) ->
    [Pid ! stop || {Pid, _, _} <- Workers],
    lists:usort(lists:append([await(Worker) || Worker <- Workers])).

nothing_left_after_stops(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Round = fun(_) ->
                    ok = sockpool:start_pool(Pool, full_pool(Server)),
                    [ok, ok] = run_all([fun() -> request(Pool) end, fun() -> checkout(Pool) end]),
                    ok = sockpool:stop_pool(Pool)
            end,
    Resources = fun() ->
                        wait_until(fun() -> sockpool_test_server:live(Server) =:= 0 end),
                        {sockpool_test_util:descriptors(), length(processes())}
                end,
    ok = Round(0),
    Before = Resources(),
    _ = [ok = Round(N) || N <- lists:seq(1, 100)],
    wait_until(fun() -> Resources() =:= Before orelse {Before, Resources()} end).

%%% Another start under the same name.

restart_with_other_options(Config) ->
    Pool = ?config(pool, Config),
    One = sockpool_test_server:start(),
    Two = sockpool_test_server:start(echo, #{path => sockpool_test_util:unix_path()}),
    ok = sockpool:start_pool(Pool, full_pool(One)),
    _ = settled(Pool),
    {ok, Old} = sockpool:checkout(Pool),
    ok = sockpool:stop_pool(Pool),
    Target = sockpool_test_server:target(Two),
    ok = sockpool:start_pool(Pool, Target#{size => 2, max_overflow => 1, packet => 2,
                                                checkout_timeout => 30}),
    ?assertMatch(#{size := 2, max_overflow := 1, total := 2}, settled(Pool)),
    wait_until(fun() -> sockpool_test_server:live(Two) =:= 2 end),
    ?assertEqual({error, closed}, sockpool:checkin(Old)),
    {ok, New} = sockpool:checkout(Pool),
    ?assertMatch({ok, #{transport := unix, packet := 2}}, sockpool:info(New)),
    More = [Conn || _ <- [1, 2], {ok, Conn} <- [sockpool:checkout(Pool, 5000)]],
    ?assertEqual({error, timeout}, sockpool:checkout(Pool)),
    [ok = sockpool:checkin(Conn) || Conn <- [New | More]],
    ?assertEqual({ok, <<"framed">>}, sockpool:request(Pool, "framed", packet, 5000)),
    wait_until(fun() -> sockpool_test_server:live(One) =:= 0 end).

%%% New code.

code_reloaded_under_load(Config) ->
    reloaded(Config, fun() -> ok end).

%% As a release upgrade does it: the next version has a library file of its own.
upgrade_to_another_library(Config) ->
    Next = filename:join(?config(priv_dir, Config), "sockpool-9.9.9"),
    sockpool_test_util:with_library_copied(
      Next,
      fun(Replace) ->
              reloaded(Config, Replace),
              ?assertEqual(filename:join(Next, "priv"), code:priv_dir(sockpool)),
              ?assertEqual(filename:join([Next, "ebin", "sockpool_nif.beam"]),
                           code:which(sockpool_nif))
      end).

%% Leases are held, receives are blocked, requests are under way when the new code comes, and when
%% the old one goes.
reloaded(Config, Prepare) ->
    Pool = ?config(pool, Config),
    Quiet = list_to_atom(atom_to_list(Pool) ++ "_quiet"),
    ok = sockpool:start_pool(Pool, full_pool(sockpool_test_server:start())),
    Server = sockpool_test_server:start(silent),
    ok = sockpool:start_pool(Quiet, full_pool(Server)),
    _ = [settled(Pool), settled(Quiet)],
    {ok, Held} = sockpool:checkout(Pool),
    Reader = start(fun() ->
                           Read = fun(Conn) -> sockpool:recv(Conn, 5, infinity) end,
                           sockpool:transaction(Quiet, Read)
                   end),
    wait_until(fun() -> stat(Quiet, leased) =:= 1 andalso waits(Reader) end),
    Workers = start_workers(Pool),
    ok = Prepare(),
    [begin
         _ = code:purge(sockpool_nif),
         wait_for_replies(Workers, 50),
         {module, sockpool_nif} = code:load_file(sockpool_nif),
         wait_for_replies(Workers, 50)
     end || _ <- lists:seq(1, 3)],
    ?assertEqual([ok], stop_workers(Workers)),
    wait_until(fun() -> sockpool_test_server:accepted(Server) =:= 4 end),
    ok = sockpool_test_server:push(Server, "after"),
    ?assertEqual({ok, <<"after">>}, await(Reader)),
    ?assertEqual(ok, use(Held)),
    ?assertEqual(ok, sockpool:checkin(Held)),
    ?assertMatch(#{total := 4, abandoned := 0, closed := 0}, settled(Pool)),
    ?assertEqual(ok, request(Pool)).
