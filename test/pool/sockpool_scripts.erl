%%% Clients that use one pool all at once, each by a script of its own, while a further script kills
%%% them, closes connections, and stops or crashes the pool. PropEr makes the scripts.
%%%
%%% What a call returns depends on timing here. Certain is: which answers it may give at all; that
%%% nobody gets another's reply; that every script comes to its end, those too that wait for ever;
%%% and that then all connections are back, and nobody has a message that he did not ask for.
%%% PropEr's own parallel tests do not fit: they look for an order of the commands, one at a time,
%%% that explains the answers, and time-outs have no place in an order.
-module(sockpool_scripts).

-export([prop_scripts/0]).

-define(WORLD, sockpool_statem_world).
-define(POOL, sockpool_statem_pool).
-define(STUCK_MS, 5000).

-spec prop_scripts() -> term().
prop_scripts() ->
    proper:forall(scenario(),
                  fun(Scenario) ->
                          Outcome = ?WORLD:isolated(fun() -> play(Scenario) end),
                          Tell = fun() -> io:format("~p~nended so: ~p~n", [Scenario, Outcome]) end,
                          proper:whenfail(Tell, fun() -> Outcome =:= passed end)
                  end).

%%% Generators.

scenario() ->
    proper_types:fixed_list([options(), proper_types:list(script()), disruptions()]).

options() ->
    proper_types:bind(
      proper_types:fixed_list([proper_types:integer(1, 3), proper_types:integer(0, 2),
                               proper_types:elements([0, infinity])]),
      fun([Size, Overflow, Ttl]) ->
              #{size => Size, max_overflow => Overflow, overflow_ttl => Ttl}
      end, false).

script() ->
    proper_types:list(proper_types:frequency(
                        [{3, {checkout, timeout_ms()}}, {3, {request, timeout_ms()}}]
                        ++ [{Weight, Step} || {Weight, Step} <-
                                                  [{3, checkin}, {1, discard}, {2, echo}, {1, lose},
                                                   {2, recv_nothing}, {1, pass_on}]])).

timeout_ms() ->
    proper_types:elements([0, 1, 2, 3, infinity, infinity]).

disruptions() ->
    proper_types:list(proper_types:frequency(
                        [{4, {wait_ms, proper_types:integer(0, 3)}},
                         {4, {kill, proper_types:integer(1, 8)}},
                         {1, close_connections}, {1, restart_pool}, {1, crash_pool}])).

%%% A play.

play([Opts, Scripts, Disruptions]) ->
    ok = ?WORLD:start(Opts),
    Stage = self(),
    Actors = [spawn_monitor(fun() -> actor(Stage, Script) end) || Script <- Scripts],
    lists:foreach(fun(Disruption) -> disrupt(Disruption, Opts, Actors) end,
                  few_crashes(Disruptions)),
    Wrong = lists:append([answers(Actor, Disruptions) || Actor <- Actors]),
    Difference = ?WORLD:difference(#{leased => 0, waiting => []}),
    Mail = [Messages || {Pid, _} <- Actors,
                        {messages, [_ | _] = Messages} <- [erlang:process_info(Pid, messages)]],
    lists:foreach(fun({Pid, _}) -> exit(Pid, kill) end, Actors),
    case {Wrong, Difference, Mail} of
        {[], [], []} -> ok = ?WORLD:stop_pool(), ?WORLD:stop();
        Failure -> Failure
    end.

%% More would be too many for the pool's supervisor.
few_crashes(Disruptions) ->
    Crashes = lists:filter(fun(Disruption) -> Disruption =:= crash_pool end, Disruptions),
    Disruptions -- lists:nthtail(min(2, length(Crashes)), Crashes).

disrupt({wait_ms, Ms}, _Opts, _Actors) ->
    receive after Ms -> ok end;
disrupt({kill, Number}, _Opts, Actors) ->
    Number =< length(Actors) andalso exit(element(1, lists:nth(Number, Actors)), kill);
disrupt(close_connections, _Opts, _Actors) ->
    ?WORLD:peer_close_idle([]);
disrupt(restart_pool, Opts, _Actors) ->
    ok = ?WORLD:stop_pool(),
    ?WORLD:start_pool(Opts);
disrupt(crash_pool, _Opts, _Actors) ->
    ?WORLD:crash_pool().

%% What the actor was answered and should not have been.
answers({Pid, Monitor}, Disruptions) ->
    receive
        {Pid, Answers} ->
            true = demonitor(Monitor, [flush]),
            [Wrong || {Step, Answer} = Wrong <- Answers, not may_be(Step, Answer, Disruptions)];
        {'DOWN', Monitor, process, Pid, killed} ->
            [];
        {'DOWN', Monitor, process, Pid, Reason} ->
            [{died, Reason}]
    after ?STUCK_MS ->
            [{stuck, erlang:process_info(Pid, [current_stacktrace, messages])}]
    end.

may_be(_Step, ok, _Disruptions) -> true;
may_be({_, 0}, {error, full}, _Disruptions) -> true;
may_be({_, Timeout}, {error, timeout}, _Disruptions) -> Timeout =/= infinity;
may_be(recv_nothing, {error, timeout}, _Disruptions) -> true;
may_be(Step, {error, Reason}, Disruptions) ->
    lists:any(fun(Disruption) -> explains(Disruption, Step, Reason) end, Disruptions);
may_be(_Step, _Answer, _Disruptions) -> false.

explains(close_connections, {checkout, _}, Reason) ->
    is_unavailable(Reason);
explains(close_connections, Step, Reason) when Step =/= checkin, Step =/= discard ->
    lists:member(Reason, [closed, econnreset, epipe]) orelse is_unavailable(Reason);
explains(restart_pool, _Step, Reason) ->
    lists:member(Reason, [closed, draining, not_found]);
explains(crash_pool, _Step, Reason) ->
    Reason =:= closed;
explains(_Harmless, _Step, _Reason) ->
    false.

%% A connection that the server closes at once counts as one that could not be made.
is_unavailable({unavailable, _}) -> true;
is_unavailable(_Reason) -> false.

%%% One client.

%% Stays when it is done, for its mailbox to be looked at. What it holds stands in its process
%% dictionary, from where alone it can be lost.
actor(Stage, Script) ->
    Answers = [{Step, step(Step, get(held))} || Step <- Script ++ [checkin]],
    Stage ! {self(), Answers},
    receive never -> ok end.

%% It takes one connection at a time, so that those who wait for ever do not wait for each other.
step({checkout, Timeout}, undefined) ->
    case sockpool:checkout(?POOL, Timeout) of
        {ok, Conn} -> _ = put(held, Conn), ok;
        Error -> Error
    end;
step({request, Timeout}, undefined) ->
    Data = payload(),
    echoed(Data, sockpool:request(?POOL, Data, byte_size(Data), Timeout));
step(lose, _Conn) ->
    _ = erase(held),
    true = erlang:garbage_collect(),
    ok;
step(_Step, undefined) ->
    ok;
step(echo, Conn) ->
    echo(Conn);
step(recv_nothing, Conn) ->
    sockpool:recv(Conn, 1, 1);
step({_Take, _Timeout}, _Conn) ->
    ok;
step(End, Conn) ->
    _ = erase(held),
    give_up(End, Conn).

give_up(checkin, Conn) -> sockpool:checkin(Conn);
give_up(discard, Conn) -> sockpool:discard(Conn);
give_up(pass_on, Conn) -> pass_on(Conn).

echo(Conn) ->
    Data = payload(),
    case sockpool:send(Conn, Data) of
        ok -> echoed(Data, sockpool:recv(Conn, byte_size(Data), ?STUCK_MS));
        Error -> Error
    end.

echoed(Data, {ok, Data}) -> ok;
echoed(_Data, Other) -> Other.

payload() ->
    <<(erlang:unique_integer([positive])):64>>.

%% Another process uses the connection and gives it back.
pass_on(Conn) ->
    Self = self(),
    {Other, Monitor} = spawn_monitor(fun() -> exit({did, passed_on(Self)}) end),
    case sockpool:give_away(Conn, Other) of
        ok -> Other ! {yours, Conn};
        Error -> Other ! Error
    end,
    receive {'DOWN', Monitor, process, Other, {did, Answer}} -> Answer end.

passed_on(Giver) ->
    Monitor = monitor(process, Giver),
    receive
        {yours, Conn} ->
            case echo(Conn) of
                ok -> sockpool:checkin(Conn);
                Error -> _ = sockpool:checkin(Conn), Error
            end;
        {error, _} = Error ->
            Error;
        {'DOWN', Monitor, process, Giver, _} ->
            giver_died
    end.
