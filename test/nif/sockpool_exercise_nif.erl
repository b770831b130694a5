%%% The part of the exercise that calls the functions of the NIF as sockpool itself does not: out of
%%% order, and with arguments of every wrong kind.
-module(sockpool_exercise_nif).

-export([functions/0, garbage/0]).

config() ->
    {ok, #{backoff := {Min, Max}} = Opts} =
        sockpool_opts:parse(raw, #{host => {127, 0, 0, 1}, port => 1, size => 0,
                                   max_overflow => 4, pipeline => 8}),
    Opts#{backoff_min => Min, backoff_max => Max, lifetime_min => infinity, lifetime_max => infinity, keepalive_times => {0, 0, 0}, health_interval => 0, health_timeout => 0, validate => 0, check => undefined, cut => undefined}.

%% This process is the pool's control process.
opened(Config) ->
    Pool = sockpool_nif:pool_new(raw, 2),
    ok = sockpool_nif:pool_open(Pool, Config, 1, undefined),
    Pool.

forget_wakes() ->
    receive sockpool_wake -> forget_wakes() after 0 -> ok end.

shut(Pool) ->
    case sockpool_nif:pool_shut(Pool) of
        again -> shut(Pool);
        ok -> ok
    end.

%% @doc The control functions and a connector's, step by step.
-spec functions() -> ok.
functions() ->
    Peer = sockpool_scripted_peer:start(#{}),
    Port = sockpool_scripted_peer:port(Peer),
    Pool = opened(config()),
    Self = self(),
    {already_started, Self} = sockpool_nif:pool_open(Pool, config(), 1, Self),
    ok = sockpool_nif:pool_clean_up(Pool),
    undefined = sockpool_nif:pool_changes(Pool),
    [ok = sockpool_nif:pool_update(Pool, (config())#{size := Size}, #{size => Size, kept => <<0:8000>>}) || Size <- [1, 2, 0]],
    #{size := 0} = sockpool_nif:pool_changes(Pool),
    {[], false, infinity} = sockpool_nif:pool_step(Pool),
    {[], false, infinity} = sockpool_nif:pool_checks(Pool),
    5000 = sockpool_nif:pool_checkout_timeout(Pool),
    5000 = sockpool_nif:pool_send_timeout(Pool),
    empty = sockpool_nif:checkout(Pool),
    empty = sockpool_nif:request(Pool, [<<"x">>], make_ref(), false, 1),
    ok = sockpool_nif:pool_note_error(Pool, {"a term", <<0:8000>>}),
    {error, timeout} = sockpool_nif:pool_give_up(Pool),
    {error, {unavailable, {"a term", _}}} = sockpool_nif:pool_unavailable(Pool),
    ok = sockpool_nif:pool_ready(Pool, 0),
    {error, timeout} = sockpool_nif:pool_ready(Pool, 1 bsl 62),
    #{bounds := [_ | _]} = sockpool_nif:pool_histograms(Pool),
    [{[], 0} = sockpool_nif:pool_connections(Pool, Cursor) || Cursor <- [0, 1, 1 bsl 31]],
    piped = sockpool_nif:pool_kind(Pool),
    {_, 0, 0, 1000} = sockpool_nif:pool_look(Pool),
    [ok = sockpool_nif:pool_listen(Pool, Is) || Is <- [true, false]],
    true = sockpool_nif:count(pools) > 0,
    connected(Pool, Port),
    checked(Port),
    given_up(Pool),
    lost(Pool),
    {{due, _}, _} = {sockpool_nif:pool_tick(Pool, 0), sockpool_nif:pool_tick(Pool, 1000)},
    [ok = sockpool_nif:pool_idle_event(Pool, Slot, 0) || Slot <- [0, 1, 15, 16, 1 bsl 31]],
    [ok = sockpool_nif:pipe_event(Pool, Pipe, 0, Write) || Pipe <- [0, 1, 65535, 1 bsl 31], Write <- [true, false]],
    elsewhere(Pool),
    ok = shut(Pool),
    not_found = sockpool_nif:pool_stats(Pool, {0, 0, 0, 0}),
    {error, not_found} = sockpool_nif:checkout(Pool),
    forget_wakes(),
    ok = sockpool_scripted_peer:stop(Peer).

attempt(Pool) ->
    {error, full} = sockpool_nif:pool_want(Pool),
    {[Attempt], _, _} = sockpool_nif:pool_step(Pool),
    Attempt.

claimed(Pool) ->
    Attempt = attempt(Pool),
    ok = sockpool_nif:attempt_claim(Attempt, self()),
    Attempt.

connected(Pool, Port) ->
    Queued = make_ref(),
    {wait, Waiter} = sockpool_nif:enqueue(Pool, Queued, infinity),
    {[Attempt], _, _} = sockpool_nif:pool_step(Pool),
    {error, not_owner} = sockpool_nif:attempt_ready(Attempt),
    ok = sockpool_nif:attempt_claim(Attempt, self()),
    {error, not_owner} = sockpool_nif:attempt_claim(Attempt, self()),
    badarg = answer(attempt_ready, [Attempt]),
    ok = begun(Attempt, Port),
    %% Another address after the first: the first connection is closed.
    ok = begun(Attempt, Port),
    ok = sockpool_nif:attempt_opened(Attempt, make_ref()),
    badarg = answer(attempt_begin, [Attempt, <<127, 0, 0, 1>>, Port, <<"x">>, make_ref()]),
    ok = sockpool_nif:send(Attempt, [<<"hi">>], 0, false, again, make_ref()),
    {error, busy} = sockpool_nif:checkin(Attempt),
    %% What the server has said is to be read before.
    {ok, <<"hi">>} = sockpool_wait:recv(Attempt, 2, 5000),
    ok = sockpool_nif:attempt_ready(Attempt),
    {error, closed} = sockpool_nif:attempt_ready(Attempt),
    receive {'$sockpool', Queued, granted} -> ok after 5000 -> error(not_granted) end,
    ok = sockpool_nif:discard(Waiter, discarded).

begun(Attempt, Port) ->
    Ref = make_ref(),
    case sockpool_nif:attempt_begin(Attempt, <<127, 0, 0, 1>>, Port, <<"x">>, Ref) of
        ok -> ok;
        wait -> receive {'$sockpool', Ref, ready} -> ok after 5000 -> error(not_open) end
    end.

%% A control process and one that asks in one: each end of a check.
checked(Port) ->
    Pool = opened((config())#{pipeline := 1, size := 1, health_interval := 10, health_timeout := 5000}),
    ok = up(Pool, Port),
    Skipped = claimed_check(Pool),
    badarg = answer(check_abort, [Skipped]),
    ok = sockpool_nif:check_skipped(Skipped),
    {error, closed} = sockpool_nif:check_skipped(Skipped),
    Passed = claimed_check(Pool),
    {error, busy} = sockpool_nif:checkin(Passed),
    told = sockpool_nif:cancel(Passed),
    {error, busy} = sockpool_nif:discard(Passed, discarded),
    ok = sockpool_nif:check_passed(Passed),
    Failed = claimed_check(Pool),
    ok = sockpool_nif:check_failed(Failed),
    ok = up(Pool, Port),
    Check = check(Pool),
    ok = in_a_process(fun() -> ok = sockpool_nif:check_claim(Check, self()) end),
    ok = sockpool_nif:check_abort(Check),
    #{closed_by := #{health := 2}, health_ok := 1, health_failed := 2} = sockpool_nif:pool_stats(Pool, {0, 0, 0, 0}),
    ok = shut(Pool),
    forget_wakes().

up(Pool, Port) ->
    {[Attempt], _, _} = sockpool_nif:pool_step(Pool),
    ok = sockpool_nif:attempt_claim(Attempt, self()),
    ok = sockpool_nif:attempt_resolved(Attempt, 5),
    ok = begun(Attempt, Port),
    ok = sockpool_nif:attempt_opened(Attempt, make_ref()),
    ok = sockpool_nif:attempt_ready(Attempt).

claimed_check(Pool) ->
    Check = check(Pool),
    ok = sockpool_nif:check_claim(Check, self()),
    {error, not_owner} = sockpool_nif:check_claim(Check, self()),
    Check.

check(Pool) ->
    case sockpool_nif:pool_checks(Pool) of
        {[Check], _, _} -> Check;
        {[], false, Ms} -> receive after Ms -> check(Pool) end
    end.

given_up(Pool) ->
    Attempt = claimed(Pool),
    {error, _} = sockpool_nif:attempt_opened(Attempt, make_ref()),
    {error, _} = sockpool_nif:attempt_begin(Attempt, <<"/nonexistent/socket">>, local,
                                            <<>>, make_ref()),
    ok = sockpool_nif:attempt_failed(Attempt, other),
    {error, closed} = sockpool_nif:attempt_failed(Attempt, other),
    {error, {unavailable, {"a term", <<0:8000>>}}} = sockpool_nif:pool_give_up(Pool),
    ok.

%% Handles that are dropped in every state, with nothing but the collector to tell of it.
lost(Pool) ->
    {wait, _} = sockpool_nif:enqueue(Pool, make_ref(), infinity),
    {wait, _} = sockpool_nif:request(Pool, [<<"x">>, binary:copy(<<"y">>, 1000)], make_ref(), infinity, 1),
    {wait, Cancelled} = sockpool_nif:enqueue(Pool, make_ref(), infinity),
    cancelled = sockpool_nif:cancel(Cancelled),
    {error, closed} = sockpool_nif:checkin(Cancelled),
    {error, closed} = sockpool_nif:checkin_clean(Cancelled),
    true = erlang:garbage_collect(),
    forget_wakes().

%% Only the control process may call what is its own.
elsewhere(Pool) ->
    in_a_process(fun() ->
                         badarg = answer(pool_step, [Pool]),
                         badarg = answer(pool_shut, [Pool]),
                         badarg = answer(pool_tick, [Pool, 0]),
                         badarg = answer(pool_idle_event, [Pool, 0, 0]),
                         badarg = answer(pipe_event, [Pool, 0, 0, true])
                 end).

in_a_process(Fun) ->
    {Pid, Monitor} = spawn_monitor(Fun),
    receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end,
    ok.

answer(Function, Args) ->
    try apply(sockpool_nif, Function, Args)
    catch error:Reason -> Reason
    end.

%% @doc Every function, each argument in turn replaced by every kind of term. What a function makes
%% of it is its own affair, so long as it is an answer or a badarg.
-spec garbage() -> ok.
garbage() ->
    in_a_process(fun wrong_arguments/0).

%% In a process of its own: what it armed and queued leaves messages behind.
wrong_arguments() ->
    Config = config(),
    [wrong(Function, Position, Term, Config)
     || {Function, Arity} <- sockpool_nif:module_info(exports), Function =/= module_info,
        Position <- lists:seq(1, Arity), Term <- terms()],
    [wrong_target(Position, Term, Config) || Position <- lists:seq(1, 4), Term <- terms()],
    [wrong_config(Config#{Key := Term}) || Key <- maps:keys(Config), Term <- terms()],
    [badarg = answer(pool_open, [sockpool_nif:pool_new(raw, 1), maps:remove(Key, Config), 1,
                                self()])
     || Key <- needed()],
    [badarg = answer(pool_update, [opened(Config), maps:remove(Key, Config), #{}]) || Key <- needed() -- [check, cut]].

wrong(Function, Position, Term, Config) ->
    Pool = opened(Config),
    {Before, [_ | After]} = lists:split(Position - 1, right(Function, Pool, Config)),
    case answer(Function, Before ++ [Term | After]) of
        badarg -> ok;
        {error, _} -> ok;
        Answer ->
            {true, _} = {Answer =/= undef andalso not lists:member(Function, strict()),
                         {Function, Position, Term, Answer}}
    end,
    ok = shut(Pool).

%% What a node is to be told, of which a connection to something else makes no use.
wrong_target(Position, Term, Config) ->
    Pool = opened(Config),
    Target = setelement(Position, {<<"h">>, <<"n@h">>, <<"here">>, <<"cookie">>}, Term),
    Arguments = [claimed(Pool), <<127, 0, 0, 1>>, 1, Target, make_ref()],
    Text = is_binary(Term) andalso byte_size(Term) =< 255,
    true = (answer(attempt_begin, Arguments) =:= badarg) =/= Text,
    ok = shut(Pool).

%% Functions of a pool that must refuse whatever is no pool, and have no other argument.
strict() ->
    [pool_shut, pool_clean_up, pool_step, pool_stats, pool_want, pool_give_up, pool_unavailable,
     pool_checkout_timeout, pool_send_timeout, pool_controller, pool_kind, pool_look, pool_parent, pool_retire, tls_configure, tls_context, checkout].

wrong_config(Config) ->
    Pool = sockpool_nif:pool_new(raw, 1),
    case answer(pool_open, [Pool, Config, 1, undefined]) of
        badarg -> ok;
        ok -> ok = shut(Pool)
    end.

needed() ->
    [transport, strategy, packet, size, max_overflow, overflow_ttl, validate, max_hold, leak_threshold,
     max_waiting, replies, backoff_min, backoff_max, fail_fast, recv_limit, nodelay, keepalive, keepalive_times, user_timeout, health_interval, health_timeout, sndbuf, recbuf, bind,
     checkout_timeout, send_timeout, slow_checkout, tls, max_inflight, abandoned, connect_parallelism, worker_shutdown, check,
     cut, pipeline, pipeline_bytes, pipeline_stall, min_size, idle_timeout, lifetime_min, lifetime_max, max_uses, growth, min_idle].

right(pool_new, _Pool, _Config) -> [raw, 1];
right(pool_update, Pool, Config) -> [Pool, Config, #{}];
right(pool_open, _Pool, Config) -> [sockpool_nif:pool_new(raw, 1), Config, 1, self()];
right(pool_tick, Pool, _Config) -> [Pool, 0];
right(pool_set_parent, Pool, _Config) -> [Pool, 1];
right(count, _Pool, _Config) -> [pools];
right(pool_stats, Pool, _Config) -> [Pool, {0, 0, 0, 0}];
right(pool_connections, Pool, _Config) -> [Pool, 0];
right(pool_ready, Pool, _Config) -> [Pool, 1];
right(pool_listen, Pool, _Config) -> [Pool, true];
right(pool_idle_event, Pool, _Config) -> [Pool, 0, 0];
right(pool_note_error, Pool, _Config) -> [Pool, reason];
right(enqueue, Pool, _Config) -> [Pool, make_ref(), 5000];
right(enqueue_growing, Pool, _Config) -> [Pool, make_ref(), 5000];
right(return_worker, Pool, _Config) -> [Pool, self(), 0];
right(request, Pool, _Config) -> [Pool, [<<"x">>], make_ref(), true, 1];
right(pipe_request, Pool, _Config) -> [Pool, <<"x">>, 1];
right(pipe_enqueue, Pool, _Config) -> [Pool, make_ref(), <<"x">>, 1];
right(pipe_look, Pool, _Config) -> [Pool, 0, 1];
right(pipe_arm, Pool, _Config) -> [Pool, 0, make_ref()];
right(pipe_give_up, Pool, _Config) -> [Pool, 0, true];
right(pipe_place, Pool, _Config) -> [waiter(Pool)];
right(pipe_event, Pool, _Config) -> [Pool, 0, 0, true];
right(attempt_claim, Pool, _Config) -> [attempt(Pool), self()];
right(check_claim, Pool, _Config) -> [waiter(Pool), self()];
right(attempt_begin, Pool, _Config) -> [claimed(Pool), <<127, 0, 0, 1>>, 1, <<"x">>, make_ref()];
right(attempt_handshake, Pool, _Config) -> [claimed(Pool), make_ref()];
right(tls_configure, Pool, _Config) -> [Pool, #{}];
right(tls_context, Pool, _Config) -> [Pool, #{}];
right(starttls, Pool, _Config) -> [waiter(Pool), undefined];
right(starttls_handshake, Pool, _Config) -> [waiter(Pool), make_ref()];
right(take, Pool, _Config) -> [waiter(Pool), bad];
right(set_cut, Pool, _Config) -> [waiter(Pool), fun length/1];
right(set_state, Pool, _Config) -> [waiter(Pool), a_term, 1];
right(attempt_opened, Pool, _Config) -> [claimed(Pool), make_ref()];
right(attempt_ready, Pool, _Config) -> [claimed(Pool)];
right(attempt_failed, Pool, _Config) -> [claimed(Pool), other];
right(attempt_abort, Pool, _Config) -> [claimed(Pool), other];
right(attempt_resolved, Pool, _Config) -> [claimed(Pool), 1];
right(discard, Pool, _Config) -> [waiter(Pool), discarded];
right(cancel, Pool, _Config) -> [waiter(Pool)];
right(attempt_worker, Pool, _Config) -> [claimed(Pool), self()];
right(give_away, Pool, _Config) -> [waiter(Pool), self()];
right(send, Pool, _Config) -> [waiter(Pool), [<<"x">>], 0, false, false, make_ref()];
right(recv, Pool, _Config) -> [waiter(Pool), 1, false, make_ref()];
right(finish, Pool, _Config) -> [waiter(Pool), 1, false, make_ref()];
right(node_answer, _Pool, _Config) -> [<<112>>, <<0:96>>];
right(setopt, Pool, _Config) -> [waiter(Pool), nodelay, true];
right(Function, Pool, _Config) ->
    case lists:member(Function, [checkin, checkin_clean, waited, worker, disarm, park, fired, node_names, info, peername, sockname,
                                 send_timeout, state, recv_ahead, cut, check_passed, check_failed, check_skipped, check_abort]) of
        true -> [waiter(Pool)];
        false -> [Pool]
    end.

waiter(Pool) ->
    {wait, Waiter} = sockpool_nif:enqueue(Pool, make_ref(), infinity),
    Waiter.

terms() ->
    [anything, '', -1, 0, 3, 1 bsl 31, 1 bsl 63, 1 bsl 64, 1 bsl 200, 1.5, <<>>, <<1:1>>,
     <<"0123456789">>, binary:copy(<<"z">>, 200), [], [a], [<<>> | <<"improper">>],
     lists:duplicate(100, <<"x">>), "string", {}, {a, b}, #{}, #{a => b}, self(), make_ref(),
     fun() -> ok end, hd(erlang:ports())].
