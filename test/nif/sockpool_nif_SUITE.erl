%%% The NIFs called directly, as nobody should: garbage of every type, handles in every state, calls
%%% out of order. Each call gives badarg, an error or a documented answer; the VM stays up and the
%%% pool loses nothing.
-module(sockpool_nif_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([garbage_in_every_argument/1, one_wrong_argument/1, control_is_the_controllers/1,
         random_calls/1, handles_in_every_state/1, attempts_in_every_state/1, attempts_at_workers_in_every_state/1,
         attempts_of_the_other_kind/1]).
-export([busy_while_armed/1, disarm_without_an_arm/1, one_message_per_arm/1,
         waiter_is_cancelled_once/1, shut_lets_others_run/1, pools_are_collected/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stats/1, start/1, await/1, run_all/1,
                             assert_no_messages/0]).

-define(RANDOM_CALLS, 20000).

all() ->
    [garbage_in_every_argument, one_wrong_argument, control_is_the_controllers, random_calls,
     handles_in_every_state, attempts_in_every_state, attempts_at_workers_in_every_state,
     attempts_of_the_other_kind, busy_while_armed, disarm_without_an_arm,
     one_message_per_arm, waiter_is_cancelled_once, shut_lets_others_run, pools_are_collected].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    Server = sockpool_test_server:start(),
    Options = (sockpool_test_server:target(Server))#{size => 4, max_overflow => 4},
    ok = sockpool:start_pool(Case, Options),
    _ = settled(Case),
    wait_until(fun() -> sockpool_test_server:accepted(Server) =:= 4 end),
    [{server, Server}, {pool, Case} | Config].

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()).

%%% Garbage.

functions() ->
    [{F, A} || {F, A} <- sockpool_nif:module_info(exports), F =/= module_info].

garbage() ->
    [-1, 1.5, 1 bsl 70, -(1 bsl 70), atom, 'a long atom that no buffer was made for', "string",
     [], [a | b], [[]], <<>>, <<"binary">>, <<1:3>>, binary:copy(<<0>>, 100000), {}, {a, 1},
     {sockpool_conn, make_ref(), 0}, {sockpool_conn, 1, 1}, #{}, #{size => 1},
     list_to_tuple(lists:seq(1, 1000)), self(), make_ref(), fun() -> ok end,
     fun erlang:self/0, hd(erlang:ports())].

%% A call that raises anything but badarg fails the test by raising it here.
call(Function, Arguments) ->
    try
        {returned, apply(sockpool_nif, Function, Arguments)}
    catch
        error:badarg -> badarg
    end.

refused(badarg) -> true;
refused({returned, not_a_conn}) -> true;
refused({returned, {error, {bad_option, transport, _}}}) -> true;
refused({returned, {error, Reason}}) -> is_atom(Reason);
refused({returned, _}) -> false.

garbage_in_every_argument(Config) ->
    Calls = [{F, Arguments} || {F, A} <- functions(), G <- garbage(),
                               Arguments <- [lists:duplicate(A, G)]],
    ?assertEqual([], [Call || {F, Arguments} = Call <- Calls, not refused(call(F, Arguments))]),
    unharmed(Config).

%% For each function, which arguments are typed, and right ones for the others.
one_wrong_argument(Config) ->
    Resource = resource(Config),
    Lease = leased(Resource),
    Ref = make_ref(),
    Templates = [{pool_new, [x, 1], [1, 2]}, {pool_open, [Resource, config(Config), 1, self()], [1, 2, 3]},
                 {pool_shut, [Resource], [1]}, {pool_clean_up, [Resource], [1]}, {pool_step, [Resource], [1]},
                 {pool_tick, [Resource, 0], [1, 2]},
                 {pool_idle_event, [Resource, 0, 0], [1, 2, 3]}, {pool_stats, [Resource, {0, 0, 0, 0}], [1, 2]}, {pool_histograms, [Resource], [1]}, {pool_connections, [Resource, 0], [1, 2]},
                 {pool_update, [Resource, config(Config), #{}], [1, 2]}, {pool_changes, [Resource], [1]},
                 {pool_kind, [Resource], [1]}, {pool_look, [Resource], [1]}, {pool_listen, [Resource, true], [1, 2]}, {pool_parent, [Resource], [1]}, {pool_set_parent, [Resource, 1], [1, 2]},
                 {pool_retire, [Resource], [1]}, {count, [pools], [1]},
                 {pool_want, [Resource], [1]}, {pool_note_error, [Resource, x], [1]},
                 {pool_give_up, [Resource], [1]}, {pool_unavailable, [Resource], [1]}, {pool_ready, [Resource, 1], [1, 2]}, {pool_checkout_timeout, [Resource], [1]},
                 {pool_send_timeout, [Resource], [1]},
                 {attempt_claim, [Lease, self()], [1, 2]}, {pool_checks, [Resource], [1]}, {check_claim, [Lease, self()], [1, 2]},
                 {check_passed, [Lease], [1]}, {check_failed, [Lease], [1]}, {check_skipped, [Lease], [1]}, {check_abort, [Lease], [1]},
                 {pool_controller, [Resource], [1]}, {tls_configure, [Resource, #{}], [1, 2]},
                 {tls_context, [Resource, #{}], [1, 2]}, {starttls, [Lease, undefined], [1, 2]},
                 {starttls_handshake, [Lease, Ref], [1]},
                 {attempt_begin, [Lease, <<127, 0, 0, 1>>, 1, <<"x">>, Ref], [1, 2, 3, 4]},
                 {attempt_handshake, [Lease, Ref], [1]},
                 {attempt_opened, [Lease, Ref], [1]}, {attempt_ready, [Lease], [1]},
                 {attempt_resolved, [Lease, 1], [1, 2]}, {attempt_failed, [Lease, other], [1, 2]}, {attempt_abort, [Lease, other], [1, 2]}, {checkout, [Resource], [1]},
                 {enqueue, [Resource, Ref, infinity], [1, 2, 3]},
                 {enqueue_growing, [Resource, Ref, infinity], [1, 2, 3]},
                 {return_worker, [Resource, self(), 0], [1, 2, 3]}, {worker, [Lease], [1]}, {pool_check, [Resource], [1]},
                 {attempt_worker, [Lease, self()], [1, 2]}, {waited, [Lease], [1]}, {cancel, [Lease], [1]},
                 {checkin, [Lease], [1]}, {checkin_clean, [Lease], [1]}, {discard, [Lease, discarded], [1, 2]},
                 {give_away, [Lease, self()], [1, 2]},
                 {send, [Lease, [], 0, false, again, Ref], [1, 2, 3]},
                 {recv, [Lease, 1, again, Ref], [1, 2]},
                 {request, [Resource, [<<"x">>], Ref, infinity, 1], [1, 2, 3, 5]},
                 {pipe_request, [Resource, <<"x">>, 1], [1]}, {pipe_enqueue, [Resource, Ref, <<"x">>, 1], [1, 2, 3]},
                 {pipe_look, [Resource, 0, 1], [1, 2, 3]}, {pipe_arm, [Resource, 0, Ref], [1, 2, 3]},
                 {pipe_give_up, [Resource, 0, true], [1, 2]}, {pipe_place, [Lease], [1]},
                 {pipe_event, [Resource, x, 0, true], [1, 2, 3]},
                 {finish, [Lease, 1, again, Ref], [1, 2]}, {recv_ahead, [Lease], [1]}, {disarm, [Lease], [1]},
                 {take, [Lease, 1], [1, 2]}, {cut, [Lease], [1]}, {set_cut, [Lease, fun length/1], [1]},
                 {park, [Lease], [1]},
                 {fired, [Lease], [1]}, {info, [Lease], [1]}, {node_names, [Lease], [1]},
                 {node_answer, [<<112>>, <<0:96>>], [1, 2]}, {peername, [Lease], [1]},
                 {sockname, [Lease], [1]}, {setopt, [Lease, packet, raw], [1, 2, 3]},
                 {send_timeout, [Lease], [1]}, {state, [Lease], [1]}, {set_state, [Lease, x, 1], [1, 3]}],
    ?assertEqual(lists:sort(functions()),
                 lists:sort([{F, length(Arguments)} || {F, Arguments, _} <- Templates])),
    Calls = [{F, replaced(At, Arguments, G)} || {F, Arguments, Typed} <- Templates, At <- Typed,
                                                G <- wrong(F, At, Resource, Lease)],
    ?assertEqual([], [Call || {F, Arguments} = Call <- Calls, not refused(call(F, Arguments))]),
    ok = sockpool_nif:checkin(Lease),
    unharmed(Config).

replaced(1, [_ | Rest], With) -> [With | Rest];
replaced(At, [First | Rest], With) -> [First | replaced(At - 1, Rest, With)].

%% What is right by chance in that place is left out.
wrong(pool_new, 1, Resource, Lease) -> [G || G <- garbage(), not is_atom(G)] ++ [Resource, Lease];
wrong(F, 2, _, Lease) when F =:= enqueue; F =:= enqueue_growing ->
    [G || G <- garbage(), not is_reference(G)] ++ [Lease];
wrong(return_worker, 2, Resource, Lease) -> [G || G <- garbage(), not is_pid(G)] ++ [Resource, Lease];
wrong(pool_connections, 2, Resource, Lease) ->
    [G || G <- garbage(), not is_integer(G) orelse G < 0 orelse G >= 1 bsl 32] ++ [Resource, Lease];
wrong(return_worker, 3, Resource, Lease) ->
    [G || G <- garbage(), not is_integer(G) orelse G < 0 orelse G >= 1 bsl 32] ++ [Resource, Lease];
wrong(F, 3, Resource, Lease) when F =:= enqueue; F =:= enqueue_growing ->
    [G || G <- garbage(), not is_integer(G), G =/= infinity] ++ [-1, Resource, Lease];
wrong(request, 3, _, Lease) -> [G || G <- garbage(), not is_reference(G)] ++ [Lease];
wrong(F, 2, Resource, Lease) when F =:= send; F =:= request ->
    [G || G <- garbage(), G =/= []] ++ [Resource, Lease];
wrong(F, 2, Resource, Lease) when F =:= give_away; F =:= attempt_worker -> [G || G <- garbage(), not is_pid(G)] ++ [Resource, Lease];
wrong(set_state, 3, Resource, Lease) ->
    [G || G <- garbage(), not is_integer(G) orelse G < 0 orelse G >= 1 bsl 32] ++ [Resource, Lease];
wrong(node_answer, 1, Resource, Lease) -> [G || G <- garbage(), not is_binary(G)] ++ [Resource, Lease];
wrong(_, 1, Resource, Lease) -> garbage() ++ [{Resource}, {Lease}, element(2, Lease)];
wrong(_, _, Resource, Lease) -> garbage() ++ [Resource, Lease].

%% Only the process that opened the pool may do the control work.
control_is_the_controllers(Config) ->
    Resource = resource(Config),
    ?assertMatch({already_started, Pid} when is_pid(Pid) andalso Pid =/= self(),
                 sockpool_nif:pool_open(Resource, config(Config), 1, undefined)),
    ?assertEqual(ok, sockpool_nif:pool_clean_up(Resource)),
    [?assertEqual(badarg, call(F, [Resource | Rest]))
     || {F, Rest} <- [{pool_shut, []}, {pool_step, []}, {pool_tick, [0]},
                      {pool_idle_event, [0, 0]}]],
    unharmed(Config).

%% Garbage, and handles of every kind, in any order and at once in several processes.
random_calls(Config) ->
    Seed = ?config(seed, Config),
    Shared = ets:new(handles, [public, bag]),
    Processes = 4,
    _ = run_all([fun() ->
                         _ = rand:seed(exsss, {Seed, N, 0}),
                         random_calls(resource(Config), Shared, ?RANDOM_CALLS div Processes)
                 end || N <- lists:seq(1, Processes)]),
    true = ets:delete(Shared),
    erlang:garbage_collect(),
    unharmed(Config).

random_calls(_Resource, _Shared, 0) ->
    ok;
random_calls(Resource, Shared, Left) ->
    {F, A} = pick(functions()),
    Arguments = [pick_argument(Resource, Shared) || _ <- lists:seq(1, A)],
    case call(F, Arguments) of
        {returned, {Tag, {sockpool_conn, _, _} = Handle}}
          when Tag =:= ok; Tag =:= wait; Tag =:= sent ->
            _ = rand:uniform(3) =:= 1 andalso ets:insert(Shared, {handle, Handle});
        _ ->
            ok
    end,
    _ = Left rem 1000 =:= 0 andalso ets:delete(Shared, handle),
    random_calls(Resource, Shared, Left - 1).

pick(List) -> lists:nth(rand:uniform(length(List)), List).

pick_argument(Resource, Shared) ->
    case rand:uniform(10) of
        N when N =< 3 -> Resource;
        N when N =< 6 -> handle(ets:lookup(Shared, handle));
        7 -> pick([0, 1, 5, packet, true, false, infinity, first, again, fired, self(), [<<"abc">>], [], local]);
        8 -> pick([packet, nodelay, keepalive, sndbuf, recbuf, raw, line, 1, 2, 4, 4096]);
        9 -> make_ref();
        10 -> pick(garbage())
    end.

handle([]) -> none;
handle(Rows) -> element(2, pick(Rows)).

%%% Handles in each state.

lease_calls(Config) ->
    Ref = make_ref(),
    [{checkin, []}, {checkin_clean, []}, {discard, [discarded]}, {give_away, [self()]}, {cancel, []},
     {send, [[<<"x">>], 0, false, false, Ref]}, {send, [[<<"x">>], 0, true, true, Ref]},
     {send, [[<<"x">>], 1 bsl 63, false, false, Ref]}, {send, [[a, 1], 0, false, false, Ref]},
     {recv, [1, false, Ref]}, {recv, [packet, true, Ref]}, {recv, [1 bsl 63, false, Ref]},
     {finish, [1, false, Ref]}, {finish, [packet, true, Ref]}, {recv_ahead, []}, {disarm, []}, {fired, []}, {take, [bad]}, {cut, []}, {set_cut, [fun length/1]},
     {info, []}, {peername, []}, {sockname, []}, {setopt, [packet, line]},
     {setopt, [nodelay, true]}, {setopt, [sndbuf, 4096]}, {send_timeout, []},
     {state, []}, {set_state, [{a, state}, 2]},
     {starttls, [undefined]}, {starttls, [context(Config)]}, {starttls, [sockpool_nif]}, {starttls_handshake, [Ref]},
     {attempt_claim, [self()]},
     {attempt_begin, [<<127, 0, 0, 1>>, sockpool_test_server:port(?config(server, Config)),
                      <<"x">>, Ref]},
     {attempt_handshake, [Ref]}, {attempt_worker, [self()]}, {worker, []}, {waited, []},
     {attempt_opened, [Ref]}, {attempt_ready, []}, {attempt_failed, [other]}, {attempt_resolved, [1]},
     {attempt_abort, [other]}].

%% Good for one call.
context(Config) ->
    {ok, Opts} = sockpool_option:tls(#{verify => none}),
    {ok, Context} = sockpool_tls:context(resource(Config), Opts, sockpool_tls:turn(), infinity),
    Context.

handles_in_every_state(Config) ->
    Resource = resource(Config),
    lists:foreach(fun({State, Make}) ->
                          [begin
                               unharmed(Config),
                               in_state(State, Make, F, Arguments, Resource)
                           end || {F, Arguments} <- lease_calls(Config)],
                          unharmed(Config)
                  end, states()).

%% In a process of its own, with whose end the handle goes.
in_state(State, Make, F, Arguments, Resource) ->
    {State, F, ok} = {State, F, await(start(fun() ->
        Handle = Make(Resource),
        case call(F, [Handle | Arguments]) of
            badarg -> ok;
            {returned, Value} -> documented(Value)
        end
    end))}.

documented({error, Reason}) when is_atom(Reason) -> ok;
documented({error, {bad_option, transport, _}}) -> ok;
documented(Worker) when is_pid(Worker) -> ok;
documented({ok, Value}) when is_binary(Value); is_map(Value); is_tuple(Value); Value =:= undefined -> ok;
documented({wait, [_ | _], Offset}) when is_integer(Offset) -> ok;
documented(Timeout) when is_integer(Timeout) -> ok;
documented(Word) ->
    true = lists:member(Word, [ok, undefined, wait, again, cancelled, told, fired, bad_length]),
    ok.

states() ->
    Leased = fun leased/1,
    Then = fun(Ok, F) -> fun(P) -> L = Leased(P), Ok = F(L), L end end,
    Armed = fun(P) ->
                    L = Leased(P),
                    wait = sockpool_nif:recv(L, 1, again, make_ref()),
                    L
            end,
    [{leased, Leased},
     %% With its reply received: one that is still to come would reach the next user.
     {used, Then({ok, <<"x">>}, fun(L) -> ok = sockpool:send(L, "x"), sockpool:recv(L, 1) end)},
     {checked_in, Then(ok, fun sockpool_nif:checkin/1)},
     {discarded, Then(ok, fun(L) -> sockpool_nif:discard(L, discarded) end)},
     {given_away, Then(ok, fun(L) -> sockpool_nif:give_away(L, whereis(sockpool_sup)) end)},
     {given_to_self, Then(ok, fun(L) -> sockpool_nif:give_away(L, self()) end)},
     {armed, Armed},
     {disarmed, fun(P) -> L = Armed(P), cancelled = sockpool_nif:disarm(L), L end},
     {shared_with_another_process, fun another_processes_lease/1},
     {granted, fun(P) ->
                       Ref = make_ref(),
                       {wait, L} = sockpool_nif:enqueue(P, Ref, infinity),
                       receive {'$sockpool', Ref, granted} -> L end
               end},
     {requesting, fun(P) ->
                          {sent, L} = sockpool_nif:request(P, [<<>>], make_ref(), infinity, 1),
                          L
                  end},
     {cancelled, fun(P) ->
                         Taken = take_all(P, []),
                         {wait, L} = sockpool_nif:enqueue(P, make_ref(), infinity),
                         cancelled = sockpool_nif:cancel(L),
                         [ok = sockpool_nif:checkin(T) || T <- Taken],
                         L
                 end},
     {waiting, fun(P) ->
                       _ = take_all(P, []),
                       {wait, L} = sockpool_nif:enqueue(P, make_ref(), infinity),
                       L
               end}].

leased(Pool) ->
    case sockpool_nif:checkout(Pool) of
        {ok, Lease} -> Lease;
        again -> leased(Pool)
    end.

another_processes_lease(Pool) ->
    Parent = self(),
    _ = spawn_link(fun() ->
                           Lease = leased(Pool),
                           Parent ! {lease, Lease},
                           Monitor = monitor(process, Parent),
                           receive {'DOWN', Monitor, _, _, _} -> sockpool_nif:checkin(Lease) end
                   end),
    receive {lease, Lease} -> Lease end.

take_all(Pool, Taken) ->
    case sockpool_nif:checkout(Pool) of
        {ok, Lease} -> take_all(Pool, [Lease | Taken]);
        again -> take_all(Pool, Taken);
        crowded -> Taken;
        empty -> Taken
    end.

%% A connector's handle before, between and after its steps. This process is the controller.
attempts_in_every_state(Config) ->
    Port = sockpool_test_server:port(?config(server, Config)),
    Begin = fun(A, To) -> sockpool_nif:attempt_begin(A, <<127, 0, 0, 1>>, To, <<"x">>, make_ref()) end,
    Claim = fun(A) -> ok = sockpool_nif:attempt_claim(A, self()), A end,
    Opened = fun(A) -> Begin(Claim(A), Port), wait_until(fun() -> open(A) end), A end,
    States = [{unclaimed, fun(A) -> A end},
              {claimed, Claim},
              {connecting, fun(A) -> _ = Begin(Claim(A), Port), A end},
              {opened, Opened},
              {ready, fun(A) -> ok = sockpool_nif:attempt_ready(Opened(A)), A end},
              {failed, fun(A) ->
                               _ = Begin(Claim(A), Port),
                               ok = sockpool_nif:attempt_failed(A, other),
                               A
                       end}],
    [attempt_in_state(config(Config), State, Make, F, Arguments)
     || {State, Make} <- States, {F, Arguments} <- lease_calls(Config)],
    unharmed(Config).

%% Where the connection is a process, which may be dead.
attempts_at_workers_in_every_state(Config) ->
    Worker = fun() -> spawn_link(fun() -> receive never -> ok end end) end,
    Dead = fun() ->
                   {Pid, Monitor} = spawn_monitor(fun() -> ok end),
                   receive {'DOWN', Monitor, process, Pid, _} -> Pid end
           end,
    Claim = fun(A) -> ok = sockpool_nif:attempt_claim(A, self()), A end,
    Begun = fun(A, Pid) -> ok = sockpool_nif:attempt_worker(Claim(A), Pid), A end,
    States = [{unclaimed, fun(A) -> A end},
              {claimed, Claim},
              {begun, fun(A) -> Begun(A, Worker()) end},
              {begun_with_a_dead_one, fun(A) -> Begun(A, Dead()) end},
              {dead_since, fun(A) ->
                                   Pid = Worker(),
                                   Monitor = monitor(process, Pid),
                                   _ = Begun(A, Pid),
                                   true = unlink(Pid),
                                   true = exit(Pid, kill),
                                   receive {'DOWN', Monitor, process, Pid, _} -> A end
                           end},
              {ready, fun(A) -> ok = sockpool_nif:attempt_ready(Begun(A, Worker())), A end},
              {not_ready, fun(A) -> {error, closed} = sockpool_nif:attempt_ready(Begun(A, Dead())), A end},
              {failed, fun(A) -> ok = sockpool_nif:attempt_failed(Begun(A, Worker()), other), A end}],
    [attempt_in_state((config(Config))#{transport := worker}, State, Make, F, Arguments)
     || {State, Make} <- States, {F, Arguments} <- lease_calls(Config)],
    unharmed(Config).

%% What is for a stream's attempt is not for a worker's, and the other way round.
attempts_of_the_other_kind(Config) ->
    Wrong = fun(Transport, Calls) ->
                    Pool = sockpool_nif:pool_new(of_its_own, 2),
                    ok = sockpool_nif:pool_open(Pool, (config(Config))#{transport := Transport}, 1, whereis(sockpool_janitor)),
                    {[Attempt | _], _, _} = sockpool_nif:pool_step(Pool),
                    ok = sockpool_nif:attempt_claim(Attempt, self()),
                    [?assertEqual({F, badarg}, {F, call(F, [Attempt | Arguments])}) || {F, Arguments} <- Calls],
                    wait_until(fun() -> sockpool_nif:pool_shut(Pool) =:= ok end)
            end,
    await(start(fun() -> Wrong(tcp, [{attempt_worker, [self()]}]) end)),
    await(start(fun() -> Wrong(worker, [{attempt_begin, [<<127, 0, 0, 1>>, 1, <<"localhost">>, make_ref()]},
                                        {attempt_opened, [make_ref()]}, {attempt_handshake, [make_ref()]}])
                end)),
    unharmed(Config).

open(Attempt) ->
    case sockpool_nif:attempt_opened(Attempt, make_ref()) of
        ok -> true;
        {error, busy} -> waiting;
        wait -> waiting
    end.

attempt_in_state(Opts, State, Make, F, Arguments) ->
    {State, F, ok} = {State, F, await(start(fun() ->
        Pool = sockpool_nif:pool_new(of_its_own, 2),
        ok = sockpool_nif:pool_open(Pool, Opts, 1, whereis(sockpool_janitor)),
        {[Attempt | _], _, _} = sockpool_nif:pool_step(Pool),
        Handle = Make(Attempt),
        Result = case call(F, [Handle | Arguments]) of
                     badarg -> ok;
                     {returned, Value} -> documented(Value)
                 end,
        {ok, #{total := Total, connecting := Connecting}} = sockpool_pool:stats(Pool),
        true = Connecting =< Total andalso Total =< 4,
        wait_until(fun() -> sockpool_nif:pool_shut(Pool) =:= ok end),
        {error, not_found} = sockpool_pool:stats(Pool),
        Result
    end))}.

%%% Arms.

busy_while_armed(Config) ->
    Pool = ?config(pool, Config),
    {ok, Conn} = sockpool:checkout(Pool),
    Ref = make_ref(),
    wait = sockpool_nif:recv(Conn, 1, again, Ref),
    Busy = {error, busy},
    ?assertEqual([Busy || _ <- lists:seq(1, 8)],
                 [sockpool:recv(Conn, 1), sockpool:recv(Conn, 0, 0), sockpool:send(Conn, "x"),
                  sockpool:checkin(Conn), sockpool:discard(Conn),
                  sockpool:give_away(Conn, self()),
                  sockpool_nif:recv(Conn, packet, again, make_ref()),
                  sockpool_nif:finish(Conn, 1, again, make_ref())]),
    ?assertMatch({ok, _}, sockpool:info(Conn)),
    ok = sockpool_test_server:push(?config(server, Config), "x"),
    receive {'$sockpool', Ref, ready} -> ok end,
    ?assertEqual({ok, <<"x">>}, sockpool_nif:recv(Conn, 1, fired, make_ref())),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    assert_no_messages().

disarm_without_an_arm(Config) ->
    {ok, Conn} = sockpool:checkout(?config(pool, Config)),
    ?assertEqual(fired, sockpool_nif:disarm(Conn)),
    ?assertEqual(ok, sockpool_nif:fired(Conn)),
    ok = sockpool:send(Conn, "x"),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn),
    unharmed(Config).

%% Cancelled means that nothing comes, fired that exactly one message does: also while data arrives.
one_message_per_arm(Config) ->
    {ok, Conn} = sockpool:checkout(?config(pool, Config)),
    Outcomes = [arm_and_disarm(Conn) || _ <- lists:seq(1, 3000)],
    ct:log("~b cancelled, ~b fired",
           [length([x || cancelled <- Outcomes]), length([x || fired <- Outcomes])]),
    ok = sockpool:checkin(Conn),
    unharmed(Config).

arm_and_disarm(Conn) ->
    Ref = make_ref(),
    ok = sockpool:send(Conn, "x"),
    case sockpool_nif:recv(Conn, 1, again, Ref) of
        {ok, <<"x">>} ->
            at_once;
        wait ->
            Outcome = sockpool_nif:disarm(Conn),
            _ = Outcome =:= fired andalso receive {'$sockpool', Ref, ready} -> ok end,
            ok = sockpool_nif:fired(Conn),
            {ok, <<"x">>} = sockpool:recv(Conn, 1),
            assert_no_messages(),
            Outcome
    end.

waiter_is_cancelled_once(Config) ->
    Resource = resource(Config),
    Taken = take_all(Resource, []),
    {wait, Lease} = sockpool_nif:enqueue(Resource, make_ref(), infinity),
    ?assertEqual(cancelled, sockpool_nif:cancel(Lease)),
    ?assert(refused_or_told(call(cancel, [Lease]))),
    ?assertEqual({error, closed}, sockpool_nif:checkin(Lease)),
    [ok = sockpool_nif:checkin(T) || T <- Taken],
    ?assertMatch(#{waiting := 0}, settled(?config(pool, Config))),
    unharmed(Config).

refused_or_told({returned, Word}) -> lists:member(Word, [cancelled, told]);
refused_or_told(badarg) -> true.

%% Each call of a shut does a few pieces of it, and its time counts as reductions, 40 at least: a
%% hundredth of a turn.
shut_lets_others_run(Config) ->
    Waiters = 1000,
    {Calls, Reductions} = await(start(fun() ->
        Pool = sockpool_nif:pool_new(of_its_own, 2),
        ok = sockpool_nif:pool_open(Pool, config(Config), 1, undefined),
        Handles = [sockpool_nif:enqueue(Pool, make_ref(), infinity) || _ <- lists:seq(1, Waiters)],
        {reductions, Before} = process_info(self(), reductions),
        Calls = shut(Pool, 1),
        {reductions, After} = process_info(self(), reductions),
        [receive {'$sockpool', _, {error, draining}} -> ok end || {wait, _} <- Handles],
        {Calls, After - Before}
    end)),
    ?assert(Calls >= Waiters div 64),
    ?assert(Reductions >= 40 * Calls).

shut(Pool, Calls) ->
    case sockpool_nif:pool_shut(Pool) of
        again -> shut(Pool, Calls + 1);
        ok -> Calls
    end.

%% A pool that nobody refers to any more goes, and so do the connections of one whose process died.
pools_are_collected(Config) ->
    Server = ?config(server, Config),
    Live = sockpool_test_server:live(Server),
    Make = fun() ->
                   Pool = sockpool_nif:pool_new(collected, 64),
                   ok = sockpool_nif:pool_open(Pool, config(Config), 1, whereis(sockpool_janitor)),
                   {[Attempt | _], _, _} = sockpool_nif:pool_step(Pool),
                   ok = sockpool_nif:attempt_claim(Attempt, self()),
                   _ = sockpool_nif:attempt_begin(Attempt, <<127, 0, 0, 1>>,
                                                  sockpool_test_server:port(Server), <<"x">>,
                                                  make_ref())
           end,
    Round = fun() -> [await(start(Make)) || _ <- lists:seq(1, 300)] end,
    _ = Round(),
    wait_until(fun() -> sockpool_test_server:live(Server) =:= Live end),
    Before = erlang:memory(system),
    _ = [Round() || _ <- lists:seq(1, 5)],
    wait_until(fun() -> sockpool_test_server:live(Server) =:= Live end),
    Grown = erlang:memory(system) - Before,
    ct:pal("1500 pools made and collected: ~b bytes more", [Grown]),
    %% 64 shards of 256 bytes and more each: a leak would be over 24 MB.
    ?assert(Grown < 5000000).

%%% Helpers.

resource(Config) -> persistent_term:get({sockpool, ?config(pool, Config)}).

%% As sockpool_pool makes it of the parsed options.
config(Config) ->
    Target = sockpool_test_server:target(?config(server, Config)),
    {ok, Options} = sockpool_opts:parse(x, Target#{size => 2, max_overflow => 2}),
    Options#{backoff_min => 10, backoff_max => 100, lifetime_min => infinity, lifetime_max => infinity, keepalive_times => {0, 0, 0}, health_interval => 0, health_timeout => 0, check => undefined, cut => undefined}.

unharmed(Config) ->
    Pool = ?config(pool, Config),
    ?assertMatch(#{leased := 0, waiting := 0, connecting := 0}, settled(Pool)),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)),
    ?assertMatch(#{size := 4}, stats(Pool)).
