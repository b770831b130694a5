%%% Things that happen at the same moment: time-outs against grants, replies and arriving data,
%%% giving away against deaths. No connection is lost, no message left over in any mailbox, and no
%%% reply of one process reaches another: each request has an id of its own, which comes back.
-module(sockpool_race_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([checkout_timeouts_against_grants/1, request_timeouts_against_grants/1, 
         long_checkouts_against_grants/1, long_requests_against_grants/1,
         empty_requests_against_grants/1, growth_against_checkins/1]).
-export([receive_timeouts_against_data/1, request_timeouts_against_replies/1,
         send_timeouts_against_the_reader/1]).
-export([handed_round_a_ring/1, giving_away_against_deaths/1, selective_receive/1,
         everything_at_once/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, run_all/1,
                             assert_no_messages/0, us_since/1]).

-define(WAITERS, 50).
-define(ROUNDS, 200).
-define(LONG_WAITERS, 2000).
-define(LONG_ROUNDS, 8).
-define(LONG_APART_MS, 250).
%% Before the moment that is meant, so that it is not missed.
-define(SPIN_MS, 20).
-define(ID_BYTES, 24).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [checkout_timeouts_against_grants, request_timeouts_against_grants,
     long_checkouts_against_grants, long_requests_against_grants,
     empty_requests_against_grants, growth_against_checkins, receive_timeouts_against_data,
     request_timeouts_against_replies, send_timeouts_against_the_reader, handed_round_a_ring,
     giving_away_against_deaths, selective_receive, everything_at_once].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()).

%%% Waiters whose time ends when the connections come back.

checkout_timeouts_against_grants(Config) ->
    Pool = started(Config, echo, #{size => 4, max_overflow => 0}),
    Counts = rounds(Pool, fun(Ms) -> checked_out(Pool, Ms) end, ?WAITERS, shorts(?ROUNDS)),
    #{timeouts := Timeouts} = settled(Pool),
    ?assertEqual(maps:get(timeout, Counts), Timeouts),
    ?assertMatch(#{total := 4, created := 4, abandoned := 0}, settled(Pool)).

request_timeouts_against_grants(Config) ->
    Pool = started(Config, echo, #{size => 4, max_overflow => 0, backoff => {1, 10}}),
    _ = rounds(Pool, fun(Ms) -> requested(Pool, Ms) end, ?WAITERS, shorts(?ROUNDS)),
    ?assertMatch(#{total := 4, abandoned := 0}, settled(Pool)).

checked_out(Pool, Ms) ->
    case sockpool:checkout(Pool, Ms) of
        {ok, Conn} -> sockpool:checkin(Conn);
        {error, timeout} -> timeout
    end.

requested(Pool, Ms) ->
    Id = id(),
    case sockpool:request(Pool, Id, byte_size(Id), Ms) of
        {ok, Id} -> ok;
        {error, timeout} -> timeout
    end.

%% Waits that are the pool's to end: what is given back about then goes from waiter to waiter, or
%% finds that their time is over. Each round has a pool of its own, and begins a while after the one before.
long_checkouts_against_grants(Config) ->
    [begin
         #{timeouts := Timeouts} = Stats = settled(Pool),
         ?assertEqual(maps:get(timeout, Counts, 0), Timeouts),
         ?assertMatch(#{total := 4, created := 4, abandoned := 0}, Stats)
     end || {Pool, Counts} <- long_rounds(Config, fun checked_out/2)].

long_requests_against_grants(Config) ->
    [?assertMatch(#{total := 4, abandoned := 0}, settled(Pool))
     || {Pool, _Counts} <- long_rounds(Config, fun requested/2)].

long_rounds(Config, Wait) ->
    Name = atom_to_list(?config(pool, Config)),
    Server = sockpool_test_server:start(),
    Round = fun(N, Times) ->
                    Pool = list_to_atom(Name ++ integer_to_list(N)),
                    Opts = #{size => 4, max_overflow => 0, backoff => {1, 10}},
                    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), Opts)),
                    _ = settled(Pool),
                    receive after N * ?LONG_APART_MS -> ok end,
                    {Pool, rounds(Pool, fun(Ms) -> Wait(Pool, Ms) end, ?LONG_WAITERS, [Times])}
            end,
    run_all([begin
                 Times = long(),
                 fun() -> Round(N, Times) end
             end || N <- lists:seq(1, ?LONG_ROUNDS)]).

%% A request without bytes is granted as a check-out is.
empty_requests_against_grants(Config) ->
    Pool = started(Config, silent, #{size => 4, max_overflow => 0, backoff => {1, 10}}),
    Wait = fun(Ms) ->
                   {error, timeout} = sockpool:request(Pool, [], 1, Ms),
                   timeout
           end,
    #{timeout := _} = rounds(Pool, Wait, ?WAITERS, shorts(?ROUNDS div 4)),
    ?assertMatch(#{total := 4, abandoned := 0}, settled(Pool)).

%% {milliseconds to wait, microseconds until the connections are given back}.
short() ->
    Ms = 2 + rand:uniform(4),
    {Ms, Ms * 1000 + rand:uniform(1600) - 800}.

shorts(Count) -> [short() || _ <- lists:seq(1, Count)].

long() -> {2000, 1980000 + rand:uniform(40000)}.

%% In each round everybody waits for the same time, and the connections are given back at its end,
%% a little before or after. Every waiter says what it got, and later that its mailbox is empty.
rounds(Pool, Wait, Count, Rounds) ->
    Parent = self(),
    Waiters = [spawn_link(fun() -> waiter(Parent, Wait) end) || _ <- lists:seq(1, Count)],
    Counts = lists:foldl(fun(Times, Done) -> round(Pool, Waiters, Times, Done) end, #{}, Rounds),
    [begin unlink(Pid), exit(Pid, kill) end || Pid <- Waiters],
    ct:pal("~b waits: ~p", [length(Rounds) * Count, maps:to_list(Counts)]),
    Counts.

round(Pool, Waiters, {Ms, BackAfterUs}, Done) ->
    Conns = take_all(Pool, []),
    Start = erlang:monotonic_time(microsecond),
    [Pid ! {wait, Ms} || Pid <- Waiters],
    receive after max(0, BackAfterUs div 1000 - ?SPIN_MS) -> ok end,
    spin_until(Start + BackAfterUs),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    Results = [receive {Pid, Result} -> Result end || Pid <- Waiters],
    %% Quiet: whatever a grant could still have sent has been sent.
    _ = settled(Pool),
    [Pid ! check || Pid <- Waiters],
    [receive {Pid, empty} -> ok end || Pid <- Waiters],
    lists:foldl(fun(Result, Counts) -> maps:update_with(Result, fun(N) -> N + 1 end, 1, Counts) end,
                Done, Results).

take_all(Pool, Taken) ->
    case sockpool:checkout(Pool, 0) of
        {ok, Conn} -> take_all(Pool, [Conn | Taken]);
        {error, full} -> Taken
    end.

spin_until(Time) ->
    case erlang:monotonic_time(microsecond) < Time of
        true -> erlang:yield(), spin_until(Time);
        false -> ok
    end.

waiter(Parent, Wait) ->
    receive {wait, Ms} -> Parent ! {self(), Wait(Ms)} end,
    receive check -> ok end,
    ok = assert_no_messages(),
    Parent ! {self(), empty},
    waiter(Parent, Wait).

%% Whichever comes first, a new connection or one that was given back, serves the waiter.
growth_against_checkins(Config) ->
    Pool = started(Config, echo, #{size => 1, max_overflow => 3, overflow_ttl => 0}),
    _ = run_all([fun() ->
                         [begin
                              {ok, Conn} = sockpool:checkout(Pool, 10000),
                              _ = rand:uniform(4) =:= 1 andalso erlang:yield(),
                              ok = sockpool:checkin(Conn)
                          end || _ <- lists:seq(1, 500)],
                         assert_no_messages()
                 end || _ <- lists:seq(1, 20)]),
    ?assertMatch(#{total := 1, abandoned := 0, checkouts := 10000, checkins := 10000},
                 settled(Pool)).

%%% Time-outs against what the server sends at that moment.

%% The server answers after as many milliseconds as the first two bytes say.
late_echo() ->
    {reply, fun(<<Ms:16, _:(?ID_BYTES - 2)/binary>> = Data) -> {'after', Ms, Data} end}.

receive_timeouts_against_data(Config) ->
    Pool = started(Config, late_echo(), #{size => ?WAITERS, max_overflow => 0,
                                          backoff => {1, 10}}),
    Once = fun() ->
                   {Sent, Ms} = late_id(),
                   {ok, Conn} = sockpool:checkout(Pool, 10000),
                   ok = sockpool:send(Conn, Sent),
                   Result = case sockpool:recv(Conn, ?ID_BYTES, Ms) of
                                {ok, Sent} ->
                                    data;
                                {error, timeout} ->
                                    {ok, Sent} = sockpool:recv(Conn, ?ID_BYTES, 10000),
                                    timeout
                            end,
                   ok = sockpool:checkin(Conn),
                   Result
           end,
    in_parallel(Once, ?ROUNDS),
    ?assertMatch(#{total := ?WAITERS, abandoned := 0}, settled(Pool)).

request_timeouts_against_replies(Config) ->
    Pool = started(Config, late_echo(), #{size => ?WAITERS div 2, max_overflow => ?WAITERS div 4,
                                          overflow_ttl => 100, backoff => {1, 10}}),
    Once = fun() ->
                   {Sent, Ms} = late_id(),
                   case sockpool:request(Pool, Sent, ?ID_BYTES, Ms) of
                       {ok, Sent} -> reply;
                       {error, timeout} -> timeout
                   end
           end,
    in_parallel(Once, ?ROUNDS),
    ?assertMatch(#{abandoned := 0}, settled(Pool)).

late_id() ->
    Ms = rand:uniform(4),
    <<_:16, Rest/binary>> = id(),
    {<<Ms:16, Rest/binary>>, Ms + lists:nth(rand:uniform(6), [0, 1, 2, 3, 10, 30])}.

%% So many processes, each doing it so many times, none with a message left.
in_parallel(Once, Times) ->
    Results = run_all([fun() ->
                               Mine = [Once() || _ <- lists:seq(1, Times)],
                               ok = assert_no_messages(),
                               Mine
                       end || _ <- lists:seq(1, ?WAITERS)]),
    All = lists:append(Results),
    Kinds = lists:usort(All),
    ct:pal("~p", [[{Kind, length([x || K <- All, K =:= Kind])} || Kind <- Kinds]]),
    ?assertEqual(2, length(Kinds)).

%% The server begins to read at about the time when the sender gives up.
send_timeouts_against_the_reader(Config) ->
    Read = {script, fun(Socket) ->
                            receive after rand:uniform(8) -> ok end,
                            read_all(Socket)
                    end},
    Pool = started(Config, Read, #{size => 10, max_overflow => 0, backoff => {1, 10},
                                   sndbuf => 16384}),
    Data = binary:copy(<<"x">>, 200000),
    Results = run_all([fun() ->
                               Mine = [sent(Pool, Data) || _ <- lists:seq(1, 20)],
                               ok = assert_no_messages(),
                               Mine
                       end || _ <- lists:seq(1, 10)]),
    All = lists:append(Results),
    ct:pal("~b sent, ~b timed out",
           [length([x || ok <- All]), length([x || {error, timeout} <- All])]),
    ?assertEqual([], [Other || Other <- All, Other =/= ok, Other =/= {error, timeout}]),
    ?assertMatch(#{total := 10, abandoned := 0}, settled(Pool)).

sent(Pool, Data) ->
    {ok, Conn} = sockpool:checkout(Pool, 10000),
    Result = sockpool:send(Conn, Data, rand:uniform(8)),
    ok = sockpool:discard(Conn),
    Result.

read_all(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, _} -> read_all(Socket);
        {error, _} -> ok
    end.

%%% Giving away.

%% One connection goes from process to process; each uses it and passes it on.
handed_round_a_ring(Config) ->
    Pool = started(Config, echo, #{size => 1, max_overflow => 0}),
    Members = [start(fun Member() ->
                             receive
                                 {use, Conn, [Next | Rest]} ->
                                     ok = use(Conn),
                                     ok = sockpool:give_away(Conn, Next),
                                     Next ! {use, Conn, Rest},
                                     Member();
                                 {use, Conn, []} ->
                                     ok = use(Conn),
                                     sockpool:checkin(Conn);
                                 stop ->
                                     assert_no_messages()
                             end
                     end) || _ <- lists:seq(1, 5)],
    Pids = [Pid || {Pid, _, _} <- Members],
    {ok, Conn} = sockpool:checkout(Pool),
    [First | Rest] = lists:append(lists:duplicate(400, Pids)),
    ok = sockpool:give_away(Conn, First),
    First ! {use, Conn, Rest},
    ok = await(lists:last(Members)),
    [Pid ! stop || Pid <- Pids],
    [ok = await(Member) || Member <- lists:droplast(Members)],
    ?assertMatch(#{created := 1, closed := 0, checkouts := 1, checkins := 1}, settled(Pool)).

use(Conn) ->
    Id = id(),
    ok = sockpool:send(Conn, Id),
    {ok, Id} = sockpool:recv(Conn, byte_size(Id), 10000),
    ok.

%% The giver, the heir or both are killed while the connection moves, by a third.
giving_away_against_deaths(Config) ->
    Pool = started(Config, echo, #{size => 4, max_overflow => 0, backoff => {1, 10}}),
    lists:foreach(fun(N) -> give_and_kill(Pool, N) end, lists:seq(1, 2000)),
    ?assertMatch(#{total := 4, leased := 0, waiting := 0}, settled(Pool)),
    use_each(Pool).

give_and_kill(Pool, N) ->
    {Heir, HeirMonitor} = spawn_monitor(fun() -> receive {yours, Conn} -> use(Conn), hold(Conn) end end),
    {Giver, GiverMonitor} =
        spawn_monitor(fun() ->
                              {ok, Conn} = sockpool:checkout(Pool, 10000),
                              _ = N rem 2 =:= 0 andalso use(Conn),
                              _ = sockpool:give_away(Conn, Heir),
                              Heir ! {yours, Conn},
                              hold(Conn)
                      end),
    spin_until(erlang:monotonic_time(microsecond) + rand:uniform(200)),
    Victims = case rand:uniform(3) of
                  1 -> [Heir, Giver];
                  2 -> [Giver, Heir];
                  3 -> [Heir]
              end,
    [exit(Pid, kill) || Pid <- Victims],
    receive {'DOWN', HeirMonitor, process, Heir, _} -> ok end,
    exit(Giver, kill),
    receive {'DOWN', GiverMonitor, process, Giver, _} -> ok end.

hold(Conn) -> receive {never, Conn} -> ok end.

use_each(Pool) ->
    Conns = [Conn || _ <- lists:seq(1, 4), {ok, Conn} <- [sockpool:checkout(Pool, 5000)]],
    ?assertEqual(4, length(Conns)),
    [ok = use(Conn) || Conn <- Conns],
    [ok = sockpool:checkin(Conn) || Conn <- Conns].

%%% Mailboxes.

%% Old messages are neither taken nor touched, and do not make each call slow.
selective_receive(Config) ->
    Pool = started(Config, echo, #{size => 1, max_overflow => 0}),
    Requests = fun() -> [{ok, <<"abc">>} = sockpool:request(Pool, "abc", 3, 10000)
                         || _ <- lists:seq(1, 1000)] end,
    EmptyUs = timed(Requests),
    Old = [{old, N} || N <- lists:seq(1, 10000)],
    [self() ! Message || Message <- Old],
    FullUs = timed(Requests),
    ct:pal("1000 requests: ~b us with an empty mailbox, ~b us with 10,000 old messages",
           [EmptyUs, FullUs]),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiter = start(fun() -> sockpool:execute(Pool, fun use/1, 10000) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 5)),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool, 5)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, ok}, await(Waiter)),
    ?assertEqual({messages, Old}, process_info(self(), messages)),
    [receive Message -> ok end || Message <- Old],
    assert_no_messages().

timed(Fun) ->
    Start = erlang:monotonic_time(microsecond),
    _ = Fun(),
    us_since(Start).

%%% All of it together: whatever is answered is one's own.

everything_at_once(Config) ->
    Pool = started(Config, echo, #{size => 6, max_overflow => 4, overflow_ttl => 20,
                                   backoff => {1, 10}}),
    Operations = [fun own_request/1, fun own_request/1, fun own_checkout/1,
                  fun leave_a_reply_behind/1, fun give_up_early/1, fun lose_it/1, fun crash_in_it/1],
    Worker = fun() ->
                     [begin
                          Operation = lists:nth(rand:uniform(length(Operations)), Operations),
                          ok = Operation(Pool)
                      end || _ <- lists:seq(1, 150)],
                     ok = assert_no_messages()
             end,
    [ok = Result || Result <- run_all([Worker || _ <- lists:seq(1, 40)])],
    lists:foreach(fun erlang:garbage_collect/1, processes()),
    #{total := Total} = Stats = settled(Pool),
    ct:pal("~p", [Stats]),
    ?assert(Total >= 6 andalso Total =< 10).

own_request(Pool) ->
    Id = id(),
    {ok, Id} = sockpool:request(Pool, Id, byte_size(Id), 20000),
    ok.

own_checkout(Pool) ->
    {ok, ok} = sockpool:execute(Pool, fun use/1, 20000),
    ok.

%% The reply is still to come, or there in part: discarded, or checked in with its rest unread.
leave_a_reply_behind(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, 20000),
    ok = sockpool:send(Conn, id()),
    case rand:uniform(2) of
        1 ->
            sockpool:discard(Conn);
        2 ->
            {error, timeout} = sockpool:recv(Conn, ?ID_BYTES + 1, 1),
            sockpool:checkin(Conn)
    end.

give_up_early(Pool) ->
    Id = id(),
    case sockpool:request(Pool, Id, byte_size(Id), rand:uniform(3) - 1) of
        {ok, Id} -> ok;
        {error, Reason} when Reason =:= timeout; Reason =:= full -> ok
    end.

%% In a process that ends with the connection in its hands, used.
lose_it(Pool) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
                                           {ok, Conn} = sockpool:checkout(Pool, 20000),
                                           ok = sockpool:send(Conn, id())
                                   end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end.

crash_in_it(Pool) ->
    try sockpool:transaction(Pool, fun(Conn) -> ok = sockpool:send(Conn, id()), throw(oops) end,
                             20000)
    catch
        throw:oops -> ok
    end.

%%% Helpers.

id() -> (sockpool_test_util:ids(?ID_BYTES))().

started(Config, Behaviour, More) ->
    Server = sockpool_test_server:start(Behaviour),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), More)),
    _ = settled(Pool),
    Pool.
