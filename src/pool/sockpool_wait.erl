%%% @private
%%% Everything that can make a caller wait. This module holds the only receive of the data plane
%%% and changes rarely: purging old code kills the processes that wait in it.
%%%
%%% Each wait has a fresh reference, so that the receive skips what was in the mailbox before, and
%%% exactly one message `{'$sockpool', Ref, What}' comes for it, unless cancel/1 or disarm/1 has
%%% answered `cancelled'. The lease is used after each wait, which keeps it from the collector.
-module(sockpool_wait).

-export([checkout/2, checkout_growing/2, checked/4, send/3, recv/3, recv_packet/2, request/4, request_piped/4, open/6, handshake/2, deadline/1, left/1]).
-export([begin_piped/3, end_piped/5]).
-export([recv_rest/4, finish/4]).
-export([ask/4, asked/1, from/1, wait_on/2, give_up/1, next/3]).
-export_type([deadline/0, asked/0, answer/0]).

%% The tag of a caller at an alias, as gen_server has it.
-dialyzer({no_improper_lists, [ask/4, from/1]}).

-type deadline() :: integer() | infinity.
%% Milliseconds of erlang:monotonic_time/1.

-spec deadline(timeout()) -> deadline().
deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

%% @doc Milliseconds until then.
-spec left(deadline()) -> timeout().
left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

await(Ref, Timeout) ->
    receive
        {'$sockpool', Ref, What} -> What
    after Timeout ->
        timeout
    end.

%%% Check-out, where nothing is idle.

%% Who ends a wait in the queue: {the pool, a timer of the caller's own}. A timer that one scheduler
%% sets and another one cancels costs a tenth of a request that has to wait; the pool looks at its
%% waiters at every tick, so what it ends may end two ticks late.
-define(WATCHED_FROM_MS, 2000).

watch(infinity) -> {infinity, infinity};
watch(Timeout) when Timeout >= ?WATCHED_FROM_MS -> {Timeout, infinity};
watch(Timeout) -> {infinity, Timeout}.

-spec checkout(sockpool_nif:pool(), timeout() | default) ->
          {ok | node, sockpool_nif:lease()} | {worker, sockpool_nif:lease(), pid()} | {error, term()}.
checkout(Pool, default) ->
    checkout(Pool, sockpool_nif:pool_checkout_timeout(Pool));
checkout(Pool, 0) ->
    refused(sockpool_nif:pool_want(Pool), Pool);
checkout(Pool, Timeout) ->
    checkout(Pool, Timeout, fun sockpool_nif:enqueue/3).

%% @doc As checkout/2, but `{error, full}' where it would be for a check-in that the caller waits.
-spec checkout_growing(sockpool_nif:pool(), timeout()) ->
          {ok | node, sockpool_nif:lease()} | {worker, sockpool_nif:lease(), pid()} | {error, term()}.
checkout_growing(Pool, Timeout) ->
    checkout(Pool, Timeout, fun sockpool_nif:enqueue_growing/3).

checkout(Pool, Timeout, Enqueue) ->
    Ref = make_ref(),
    {Expiry, Timer} = watch(Timeout),
    case Enqueue(Pool, Ref, Expiry) of
        {wait, Lease} ->
            Began = sockpool_slow:began(),
            Result = case await(Ref, Timer) of
                         timeout -> cancel(Pool, Lease, Ref, fun(What, Given) -> granted(What, Given, Pool, Timeout) end);
                         What -> granted(What, Lease, Pool, Timeout)
                     end,
            sockpool_slow:waited(Pool, Began, Result);
        {error, _} = Error ->
            refused(Error, Pool)
    end.

%% Why there is no connection. Of who was told so in the queue, or was not let into it.
refused({error, timeout}, Pool) -> sockpool_nif:pool_give_up(Pool);
refused({error, unavailable}, Pool) -> sockpool_nif:pool_unavailable(Pool);
refused({error, _} = Error, _Pool) -> Error.

granted(granted, Lease, _Pool, _Timeout) -> {ok, Lease};
granted(worker, Lease, Pool, Timeout) -> worker(sockpool_nif:worker(Lease), Lease, Pool, false, Timeout);
granted(check, Lease, Pool, Timeout) -> worker(sockpool_nif:worker(Lease), Lease, Pool, true, Timeout);
granted(node, Lease, _Pool, _Timeout) -> {node, Lease};
granted({error, _} = Error, _Lease, Pool, _Timeout) -> refused(Error, Pool).

%% @doc A worker that was checked out just now, or the first after it that the pool's function takes for fit; the others
%% are closed.
-spec checked(sockpool_nif:pool(), sockpool_nif:lease(), pid(), timeout() | default) ->
          {worker, sockpool_nif:lease(), pid()} | {error, term()}.
checked(Pool, Lease, Worker, default) ->
    checked(Pool, Lease, Worker, sockpool_nif:pool_checkout_timeout(Pool));
checked(Pool, Lease, Worker, Timeout) ->
    check(Pool, Lease, Worker, deadline(Timeout), Timeout).

%% Of one who has waited. The clock is read only where more time is needed.
worker({error, closed}, Lease, Pool, _IsToCheck, Timeout) ->
    %% It has ended on the way.
    next_worker(Pool, deadline_of(Lease, Timeout), Timeout);
worker(Worker, Lease, _Pool, false, _Timeout) ->
    {worker, Lease, Worker};
worker(Worker, Lease, Pool, true, Timeout) ->
    check(Pool, Lease, Worker, deadline_of(Lease, Timeout), Timeout).

deadline_of(_Lease, infinity) -> infinity;
deadline_of(Lease, Timeout) -> deadline(Timeout) - sockpool_nif:waited(Lease).

check(Pool, Lease, Worker, Deadline, Timeout) ->
    case sockpool_worker:fit(Pool, Worker) of
        true ->
            {worker, Lease, Worker};
        false ->
            _ = sockpool_nif:discard(Lease, health),
            next_worker(Pool, Deadline, Timeout)
    end.

next_worker(Pool, Deadline, Timeout) ->
    LeftMs = left(Deadline),
    case sockpool_nif:checkout(Pool) of
        again -> next_worker(Pool, Deadline, Timeout);
        {check, Lease, Worker} -> check(Pool, Lease, Worker, Deadline, Timeout);
        Empty when LeftMs =:= 0, Timeout > 0, Empty =:= empty orelse Empty =:= crowded -> sockpool_nif:pool_give_up(Pool);
        Empty when Empty =:= empty; Empty =:= crowded -> checkout(Pool, LeftMs);
        Other -> Other
    end.

%% In the queue still; or what was told is there, and the fun says what comes of that.
cancel(Pool, Lease, Ref, Told) ->
    case sockpool_nif:cancel(Lease) of
        cancelled -> sockpool_nif:pool_give_up(Pool);
        told -> Told(await(Ref, infinity), Lease)
    end.

%%% Send and receive on a lease.

%% Nothing is there yet. The server needs a while anyhow: others run first, for a round of the run
%% queue, which is cheaper than a select, its event and the wake-up. Only the third attempt arms.

%% A server that answers while it reads goes on reading only when its answer is taken. So who waits to send looks now and
%% then whether there is some: soon again where there was.
-define(FIRST_LOOK_MS, 1).
-define(LONGEST_LOOK_MS, 32).

await_room(Lease, Ref, Deadline, LookMs) ->
    case await(Ref, min(LookMs, left(Deadline))) of
        ready ->
            ready;
        timeout ->
            case {left(Deadline), sockpool_nif:recv_ahead(Lease)} of
                {0, _} -> timeout;
                {_, 0} -> await_room(Lease, Ref, Deadline, min(2 * LookMs, ?LONGEST_LOOK_MS));
                _TakenOrClosed -> await_room(Lease, Ref, Deadline, ?FIRST_LOOK_MS)
            end
    end.

-spec send(term(), [binary()], timeout() | default) -> ok | not_a_conn | {error, term()}.
send(Lease, Iovec, Timeout) ->
    Ref = make_ref(),
    case sockpool_nif:send(Lease, Iovec, 0, false, again, Ref) of
        {Next, Rest, Offset} -> send_more(Next, Lease, Rest, Offset, Ref, send_deadline(Lease, Timeout));
        many -> send(Lease, joined(Iovec), Timeout);
        Done -> Done
    end.

%% To go over thousands of parts would keep the scheduler; this does not.
joined(Iovec) -> [iolist_to_binary(Iovec)].

send_deadline(Lease, default) -> deadline(sockpool_nif:send_timeout(Lease));
send_deadline(_Lease, Timeout) -> deadline(Timeout).

send_more(wait, Lease, Rest, Offset, Ref, Deadline) ->
    case await_room(Lease, Ref, Deadline, ?FIRST_LOOK_MS) of
        ready -> send_rest(Lease, Rest, Offset, true, fired, Deadline);
        timeout -> disarm(Lease, Ref)
    end;
send_more(again, Lease, Rest, Offset, _Ref, Deadline) ->
    send_rest(Lease, Rest, Offset, true, again, Deadline).

send_rest(Lease, Iovec, Offset, Framed, Fired, Deadline) ->
    Ref = make_ref(),
    case sockpool_nif:send(Lease, Iovec, Offset, Framed, Fired, Ref) of
        {Next, Rest, NextOffset} -> send_more(Next, Lease, Rest, NextOffset, Ref, Deadline);
        Done -> Done
    end.

-spec recv(term(), non_neg_integer() | packet, timeout()) ->
          {ok, binary()} | not_a_conn | {error, term()}.
recv(Lease, Want, Timeout) ->
    Ref = make_ref(),
    case sockpool_nif:recv(Lease, Want, first, Ref) of
        soon ->
            Deadline = deadline(Timeout),
            erlang:yield(),
            recv_rest(Lease, Want, first, Deadline);
        again ->
            recv_rest(Lease, Want, again, deadline(Timeout));
        {shown, Bytes} ->
            sockpool_cut:recv(Lease, Bytes, deadline(Timeout));
        Done ->
            Done
    end.

%% @doc One packet, for a caller to whom a round of the run queue, behind whatever runs there, is more
%% than a select: one that waits for another node.
-spec recv_packet(sockpool_nif:lease(), deadline()) -> {ok, binary()} | {error, term()}.
recv_packet(Lease, Deadline) ->
    recv_rest(Lease, packet, again, Deadline).

recv_more(Lease, Want, Ref, Deadline) ->
    case await(Ref, left(Deadline)) of
        ready -> recv_rest(Lease, Want, fired, Deadline);
        timeout -> disarm(Lease, Ref)
    end.

%% @private
-spec recv_rest(term(), sockpool_nif:want(), first | again | fired, deadline()) ->
          {ok, binary()} | not_a_conn | {error, term()}.
recv_rest(Lease, Want, Attempt, Deadline) ->
    Ref = make_ref(),
    case sockpool_nif:recv(Lease, Want, Attempt, Ref) of
        soon ->
            erlang:yield(),
            recv_rest(Lease, Want, again, Deadline);
        wait ->
            recv_more(Lease, Want, Ref, Deadline);
        again ->
            recv_rest(Lease, Want, again, Deadline);
        {shown, Bytes} ->
            sockpool_cut:recv(Lease, Bytes, Deadline);
        Done ->
            Done
    end.

disarm(Lease, Ref) ->
    case sockpool_nif:disarm(Lease) of
        cancelled ->
            {error, timeout};
        fired ->
            ready = await(Ref, infinity),
            _ = sockpool_nif:fired(Lease),
            {error, timeout}
    end.

%%% Request: check-out, send, receive and check-in in one.

-spec request(sockpool_nif:pool(), [binary()], non_neg_integer() | packet, timeout()) ->
          {ok, binary()} | bad_length | {error, term()}.
request(Pool, Iovec, Want, Timeout) ->
    Ref = make_ref(),
    {Expiry, Timer} = watch(Timeout),
    case sockpool_nif:request(Pool, Iovec, Ref, Timeout =/= 0 andalso Expiry, Want) of
        {sent, Lease} ->
            finish_sent(Lease, Want, deadline(Timeout));
        {wait, Lease} ->
            Deadline = deadline(Timeout),
            Began = sockpool_slow:began(),
            case sockpool_slow:waited(Pool, Began, await(Ref, Timer)) of
                sent -> finish(Lease, Want, first, Deadline);
                timeout -> cancel(Pool, Lease, Ref, fun(What, Given) -> given_up(What, Given, Pool) end);
                {error, _} = Error -> refused(Error, Pool);
                granted -> request_rest(Lease, Iovec, 0, false, Want, Deadline);
                Sent -> request_rest(Lease, Iovec, Sent, false, Want, Deadline)
            end;
        {partial, Lease, Rest, Offset} ->
            request_rest(Lease, Rest, Offset, true, Want, deadline(Timeout));
        {broken, Lease, Reason} ->
            last_words(Lease, Want, {error, Reason});
        bad_length ->
            bad_length;
        many ->
            request(Pool, joined(Iovec), Want, Timeout);
        again ->
            request(Pool, Iovec, Want, Timeout);
        empty ->
            refused(sockpool_nif:pool_want(Pool), Pool);
        {error, _} = Error ->
            refused(Error, Pool)
    end.

request_rest(Lease, Iovec, Offset, Framed, Want, Deadline) ->
    case send_rest(Lease, Iovec, Offset, Framed, again, Deadline) of
        ok ->
            finish_sent(Lease, Want, Deadline);
        {error, timeout} = Error ->
            _ = sockpool_nif:discard(Lease, io_timeout),
            Error;
        Error ->
            last_words(Lease, Want, Error)
    end.

%% The send failed. What the server said before it closed is there now, or never comes: an answer to all of
%% the request where it is a whole one, and the connection is closed in any case.
last_words(Lease, Want, Error) ->
    case sockpool_nif:finish(Lease, Want, first, make_ref()) of
        {ok, _} = Answer ->
            Answer;
        again ->
            last_words(Lease, Want, Error);
        {shown, Bytes} ->
            sockpool_cut:finish(Lease, Bytes, deadline(0));
        soon ->
            {error, Reason} = Error,
            _ = sockpool_nif:discard(Lease, sockpool_reason:why(Reason)),
            Error;
        {error, {tls, _}} = Told ->
            Told;
        _ ->
            Error
    end.

%% The bytes went out just now. Who was told that somebody else sent them has had its round already.
finish_sent(Lease, Want, Deadline) ->
    erlang:yield(),
    finish(Lease, Want, first, Deadline).

%% @private
-spec finish(sockpool_nif:lease(), sockpool_nif:want(), first | again | fired, deadline()) -> {ok, binary()} | {error, term()}.
finish(Lease, Want, Attempt, Deadline) ->
    Ref = make_ref(),
    case sockpool_nif:finish(Lease, Want, Attempt, Ref) of
        soon ->
            erlang:yield(),
            finish(Lease, Want, again, Deadline);
        wait ->
            case await(Ref, left(Deadline)) of
                ready -> finish(Lease, Want, fired, Deadline);
                timeout -> give_up_request(Lease, Ref)
            end;
        again ->
            finish(Lease, Want, again, Deadline);
        {shown, Bytes} ->
            sockpool_cut:finish(Lease, Bytes, Deadline);
        Done ->
            Done
    end.

give_up_request(Lease, Ref) ->
    told = sockpool_nif:cancel(Lease),
    given_up(await(Ref, infinity), Lease).

given_up({error, _} = Error, _Lease, Pool) -> refused(Error, Pool);
given_up(What, Lease, _Pool) -> given_up(What, Lease).

given_up({error, _} = Error, _Lease) ->
    Error;
given_up(granted, Lease) ->
    %% A request without bytes, whose grant nobody took back; it has done nothing yet.
    _ = sockpool_nif:checkin(Lease),
    {error, timeout};
given_up(_What, Lease) ->
    _ = sockpool_nif:fired(Lease),
    {error, timeout}.

%%% A request among those of others on the same connection.

-spec request_piped(sockpool_nif:pool(), binary(), non_neg_integer() | packet, timeout()) ->
          {ok, binary()} | bad_length | {error, term()}.
request_piped(Pool, Data, Want, Timeout) ->
    case sockpool_nif:pipe_request(Pool, Data, Want) of
        Place when is_integer(Place) ->
            erlang:yield(),
            look(Pool, Place, 1, Data, Want, Timeout);
        exclusive ->
            request(Pool, [Data], Want, Timeout);
        empty when Timeout =:= 0 ->
            refused(sockpool_nif:pool_want(Pool), Pool);
        empty ->
            wait_for_place(Pool, Data, Want, deadline(Timeout));
        again ->
            request_piped(Pool, Data, Want, Timeout);
        {error, _} = Error ->
            Error
    end.

%% @doc Puts it on a pipe, if there is room now. `none': nothing was done.
-spec begin_piped(sockpool_nif:pool(), binary(), non_neg_integer() | packet) -> sockpool_nif:place() | none.
begin_piped(Pool, Data, Want) ->
    case sockpool_nif:pipe_request(Pool, Data, Want) of
        Place when is_integer(Place) -> Place;
        _ -> none
    end.

%% @doc The reply to that.
-spec end_piped(sockpool_nif:pool(), sockpool_nif:place(), binary(), non_neg_integer() | packet, deadline()) ->
          {ok, binary()} | bad_length | {error, term()}.
end_piped(Pool, Place, Data, Want, Deadline) ->
    case sockpool_nif:pipe_look(Pool, Place, 1) of
        {ok, _} = Reply ->
            Reply;
        retry ->
            again(Pool, Data, Want, Deadline);
        {error, _} = Error ->
            Error;
        _SoonOrArm ->
            erlang:yield(),
            arm_again(Pool, Place, Data, Want, Deadline)
    end.

%% Others run, whose requests go out with this one's, and whoever runs first receives for all. Who sleeps costs a message.
look(Pool, Place, Looks, Data, Want, Timeout) ->
    case sockpool_nif:pipe_look(Pool, Place, Looks) of
        {ok, _} = Reply ->
            Reply;
        soon ->
            erlang:yield(),
            look(Pool, Place, Looks + 1, Data, Want, Timeout);
        arm ->
            erlang:yield(),
            arm(Pool, Place, Data, Want, Timeout);
        retry ->
            again(Pool, Data, Want, deadline(Timeout));
        {error, _} = Error ->
            Error
    end.

%% The clock is read only here. What has passed since then is known in C.
arm(Pool, Place, Data, Want, Timeout) ->
    Ref = make_ref(),
    case sockpool_nif:pipe_arm(Pool, Place, Ref) of
        {wait, Ms} -> sleep(Pool, Place, Ref, Data, Want, deadline(less(Timeout, Ms)));
        retry -> again(Pool, Data, Want, deadline(Timeout));
        Done -> Done
    end.

less(infinity, _Ms) -> infinity;
less(Timeout, Ms) -> max(0, Timeout - Ms).

sleep(Pool, Place, Ref, Data, Want, Deadline) ->
    told(await(Ref, left(Deadline)), Pool, Place, Ref, Data, Want, Deadline).

told({ok, _} = Reply, _Pool, _Place, _Ref, _Data, _Want, _Deadline) ->
    Reply;
told(ready, Pool, Place, _Ref, Data, Want, Deadline) ->
    fired(Pool, Place, Data, Want, Deadline);
told(timeout, Pool, Place, Ref, _Data, _Want, _Deadline) ->
    give_up_place(Pool, Place, Ref);
told(retry, Pool, _Place, _Ref, Data, Want, Deadline) ->
    again(Pool, Data, Want, Deadline);
told({error, _} = Error, _Pool, _Place, _Ref, _Data, _Want, _Deadline) ->
    Error.

fired(Pool, Place, Data, Want, Deadline) ->
    case sockpool_nif:pipe_look(Pool, Place, fired) of
        arm ->
            arm_again(Pool, Place, Data, Want, Deadline);
        retry ->
            again(Pool, Data, Want, Deadline);
        Done ->
            Done
    end.

arm_again(Pool, Place, Data, Want, Deadline) ->
    Ref = make_ref(),
    case sockpool_nif:pipe_arm(Pool, Place, Ref) of
        {wait, _Ms} -> sleep(Pool, Place, Ref, Data, Want, Deadline);
        retry -> again(Pool, Data, Want, Deadline);
        Done -> Done
    end.

%% Nothing of it was written when its connection was closed.
again(Pool, Data, Want, Deadline) ->
    case left(Deadline) of
        0 -> sockpool_nif:pool_give_up(Pool);
        LeftMs -> request_piped(Pool, Data, Want, LeftMs)
    end.

%% With a timer of its own, since it may be for a reply that it sleeps.
wait_for_place(Pool, Data, Want, Deadline) ->
    Ref = make_ref(),
    case sockpool_nif:pipe_enqueue(Pool, Ref, Data, Want) of
        {wait, Lease} ->
            case await(Ref, left(Deadline)) of
                ready -> fired(Pool, sockpool_nif:pipe_place(Lease), Data, Want, Deadline);
                retry -> again(Pool, Data, Want, Deadline);
                timeout -> give_up_wait(Pool, Lease, Ref);
                {error, unavailable} -> sockpool_nif:pool_unavailable(Pool);
                Done -> Done
            end;
        {error, _} = Error ->
            refused(Error, Pool)
    end.

give_up_wait(Pool, Lease, Ref) ->
    case sockpool_nif:cancel(Lease) of
        cancelled -> sockpool_nif:pool_give_up(Pool);
        piped -> give_up_place(Pool, sockpool_nif:pipe_place(Lease), Ref);
        told ->
            case await(Ref, infinity) of
                {error, unavailable} -> sockpool_nif:pool_unavailable(Pool);
                Told -> Told
            end
    end.

give_up_place(Pool, Place, Ref) ->
    case sockpool_nif:pipe_give_up(Pool, Place, true) of
        told ->
            case await(Ref, infinity) of
                ready -> sockpool_nif:pipe_give_up(Pool, Place, false);
                retry -> {error, timeout};
                Told -> Told
            end;
        Done ->
            Done
    end.

%%% Calls to the server of another node. The caller never does what waits where the connection to that
%%% node is full: its monitor is on a process of its own node, and what cannot be sent at once is sent by
%%% another process.

-opaque asked() :: {Monitor :: reference(), Sender :: pid() | none}.
-type answer() :: {answer, term()} | {down, Reason :: term()} | {silent, asked()}.

%% @doc `{silent, Asked}': nothing yet. Then it is to be waited on, or given up. `not_connected': nothing was
%% sent, and an old watch may be one of a connection that is gone; a new one is about to connect. Raises
%% system_limit where there is no process to be had that sends.
-spec ask({new | old, Watch :: pid()}, node(), term(), timeout()) -> answer() | not_connected.
ask({Age, Watch}, Node, Request, Timeout) ->
    Ref = monitor(process, Watch, [{alias, reply_demonitor}]),
    To = {sockpool, Node},
    Message = {'$gen_call', {self(), [alias | Ref]}, Request},
    case erlang:send(To, Message, [noconnect, nosuspend]) of
        ok ->
            wait_on({Ref, none}, Timeout);
        noconnect when Age =:= old ->
            true = demonitor(Ref, [flush]),
            not_connected;
        _ConnectingOrFull ->
            wait_on({Ref, sender(Ref, To, Message)}, Timeout)
    end.

sender(Ref, To, Message) ->
    try
        spawn(erlang, send, [To, Message])
    catch
        error:system_limit = Reason ->
            true = demonitor(Ref, [flush]),
            error(Reason)
    end.

%% @doc For who is asked by another message than ask/4's: a process of this node.
-spec asked(pid()) -> asked().
asked(Pid) -> {monitor(process, Pid, [{alias, reply_demonitor}]), none}.

%% @doc To whom gen_server:reply/2 is to answer.
-spec from(asked()) -> {pid(), Tag :: term()}.
from({Ref, _Sender}) -> {self(), [alias | Ref]}.

-spec wait_on(asked(), timeout()) -> answer().
wait_on({Ref, Sender} = Asked, Timeout) ->
    receive
        {[alias | Ref], Reply} -> {answer, Reply};
        {'DOWN', Ref, process, _, Reason} -> down(Reason, Sender)
    after Timeout ->
        {silent, Asked}
    end.

%% @doc Nothing comes any more. The server may have heard the request, or may hear it yet.
-spec give_up(asked()) -> {answer, term()} | given_up.
give_up({Ref, Sender}) ->
    ok = stop(Sender),
    true = demonitor(Ref, [flush]),
    receive
        {[alias | Ref], Reply} -> {answer, Reply}
    after 0 ->
        given_up
    end.

%% Who watched knows nothing of a connection, or a server, that is there since: the request may be sent yet.
down(Reason, Sender) ->
    ok = stop(Sender),
    {down, Reason}.

stop(none) -> ok;
stop(Sender) ->
    true = exit(Sender, kill),
    ok.

%%% Processes of sockpool's own that wait for their next message.

%% @doc Gives the next message to Module:got/2, or, where none comes for that time, calls Module:idle/1.
%% Who waits here holds no code of its own module: two loads of that, with no message in between, do not
%% end it.
-spec next(module(), State :: term(), timeout()) -> term().
next(Module, State, IdleMs) ->
    receive
        Message -> Module:got(Message, State)
    after IdleMs ->
        Module:idle(State)
    end.

%%% Connecting.

%% Between two looks at whether there is room.
-define(FIRST_PAUSE_MS, 1).
-define(LONGEST_PAUSE_MS, 32).

-spec open(sockpool_nif:lease(), binary(), inet:port_number() | local, sockpool_nif:host(),
           integer(), sockpool_step:at()) -> ok | {error, term()}.
open(Attempt, Address, Port, Host, Deadline, At) ->
    ok = sockpool_step:enter(At, connect),
    open(Attempt, Address, Port, Host, Deadline, At, ?FIRST_PAUSE_MS).

%% As many clients as it keeps have connected to a Unix socket, and its server has not accepted them yet.
%% Nothing tells when there is room again.
open(Attempt, Address, Port, Host, Deadline, At, PauseMs) ->
    Ref = make_ref(),
    case {begin_attempt(Attempt, Address, Port, Host, Ref), left(Deadline)} of
        {{error, eagain}, LeftMs} when Port =:= local, LeftMs > 0 ->
            ok = sockpool_step:enter(At, backlog),
            timeout = await(Ref, min(PauseMs, LeftMs)),
            open(Attempt, Address, Port, Host, Deadline, At, min(2 * PauseMs, ?LONGEST_PAUSE_MS));
        {Begun, _LeftMs} ->
            opened(Begun, Attempt, Ref, Deadline, At)
    end.

begin_attempt(Attempt, Address, Port, Host, Ref) ->
    try
        sockpool_nif:attempt_begin(Attempt, Address, Port, Host, Ref)
    catch
        %% Not with the arguments, among which a cookie may be.
        error:Reason -> erlang:raise(error, Reason, [])
    end.

opened(ok, Attempt, _Ref, Deadline, At) ->
    check_open(Attempt, Deadline, At);
opened(wait, Attempt, Ref, Deadline, At) ->
    case await(Ref, left(Deadline)) of
        ready -> check_open(Attempt, Deadline, At);
        timeout -> disarm(Attempt, Ref)
    end;
opened({error, _} = Error, _Attempt, _Ref, _Deadline, _At) ->
    Error.

check_open(Attempt, Deadline, At) ->
    Ref = make_ref(),
    case sockpool_nif:attempt_opened(Attempt, Ref) of
        ok -> ok;
        handshake -> handshake(Attempt, Deadline, At, left(Deadline) * 1000 div 2);
        Other -> opened(Other, Attempt, Ref, Deadline, At)
    end.

%% Each step is computed in a dirty scheduler, within a millisecond or so. Where these calls take more than
%% half of the time that there is, the server does not, but who has those schedulers.
handshake(Attempt, Deadline, At, HalfUs) ->
    Ref = make_ref(),
    ok = sockpool_step:enter(At, dirty_schedulers),
    BeganUs = erlang:monotonic_time(microsecond),
    Answer = sockpool_nif:attempt_handshake(Attempt, Ref),
    LeftUs = HalfUs - (erlang:monotonic_time(microsecond) - BeganUs),
    _ = LeftUs > 0 andalso sockpool_step:enter(At, handshake),
    case Answer of
        ok ->
            check_open(Attempt, Deadline, At);
        wait ->
            case await(Ref, left(Deadline)) of
                ready -> handshake(Attempt, Deadline, At, LeftUs);
                timeout -> disarm(Attempt, Ref)
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Of TLS over a connection that is in use.
-spec handshake(term(), deadline()) -> ok | not_a_conn | {error, term()}.
handshake(Lease, Deadline) ->
    Ref = make_ref(),
    case sockpool_nif:starttls_handshake(Lease, Ref) of
        wait ->
            case await(Ref, left(Deadline)) of
                ready -> handshake(Lease, Deadline);
                timeout -> disarm(Lease, Ref)
            end;
        Done ->
            Done
    end.
