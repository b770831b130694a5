%%% @private
%%% One call, or one message, over a lease of a connection to a node, and the lease goes back. The caller
%%% has it and does all of this itself. sockpool_node_conn, a process that reads, is for connections that
%%% stay checked out, over which several call; what a frame means both hear from sockpool_dist.
%%%
%%% There are two ways of reading, since a process to read for each call would cost much: by `checkout', `call'
%%% and `checkin' in place of this, a call to a node on the same machine takes 1.3 to 1.9 times as long from one
%%% caller, and 1.6 to 2.1 times from 100 (100,000 calls each, on two cores).
%%%
%%% All waits are sockpool_wait's and end at the deadline. What is sent without one has the pool's `send_timeout'.
-module(sockpool_node_call).

-export([call/5, send_to/4]).

%% @doc After anything but a reply the connection is closed.
-spec call(sockpool_nif:lease(), module(), atom(), [term()], sockpool_wait:deadline()) ->
          {ok, term()} | {error, term()}.
call(Lease, Module, Function, Args, Deadline) ->
    with_names(Lease, fun(_Node, Identity) ->
        Frame = sockpool_dist:call(Identity, 1, Module, Function, Args),
        case transmit(Lease, Frame, Deadline) of
            ok -> await_result(Lease, Identity, Deadline);
            {error, _} = Error -> lost(Lease, Error)
        end
    end).

-spec send_to(sockpool_nif:lease(), term(), term(), sockpool_wait:deadline() | default) ->
          ok | {error, term()}.
send_to(Lease, To, Message, Deadline) ->
    with_names(Lease, fun(Node, Identity) ->
        case sockpool_dist:message(Identity, Node, To, Message) of
            {ok, Frame} ->
                case transmit(Lease, Frame, Deadline) of
                    ok -> done(Lease, ok);
                    {error, _} = Error -> lost(Lease, Error)
                end;
            {error, _} = Error ->
                done(Lease, Error)
        end
    end).

with_names(Lease, Fun) ->
    case sockpool_nif:node_names(Lease) of
        {ok, Node, Name, Creation, _Max} -> Fun(Node, sockpool_dist:identity(Name, Creation));
        {error, _} = Error -> lost(Lease, Error)
    end.

transmit(Lease, Frame, default) ->
    sockpool_wait:send(Lease, erlang:iolist_to_iovec(Frame), default);
transmit(Lease, Frame, Deadline) ->
    sockpool_wait:send(Lease, erlang:iolist_to_iovec(Frame), sockpool_wait:left(Deadline)).

await_result(Lease, Identity, Deadline) ->
    case sockpool_wait:recv_packet(Lease, Deadline) of
        {ok, Frame} -> heard(sockpool_dist:incoming(Identity, Frame), Lease, Identity, Deadline);
        {error, _} = Error -> lost(Lease, Error)
    end.

heard({ended, 1, Outcome}, Lease, _Identity, _Deadline) ->
    done(Lease, sockpool_dist:result(1, Outcome));
heard({io, Request}, Lease, Identity, Deadline) ->
    sockpool_node_conn:finish(Lease, Identity, Request, Deadline);
heard({say, Answer}, Lease, Identity, Deadline) ->
    say(Answer, Lease, Identity, Deadline);
heard(tick, Lease, Identity, Deadline) ->
    say([], Lease, Identity, Deadline);
heard(_OfSomebodyElse, Lease, Identity, Deadline) ->
    await_result(Lease, Identity, Deadline).

say(Frame, Lease, Identity, Deadline) ->
    case transmit(Lease, Frame, Deadline) of
        ok -> await_result(Lease, Identity, Deadline);
        {error, _} = Error -> lost(Lease, Error)
    end.

done(Lease, Result) ->
    _ = sockpool_nif:checkin(Lease),
    Result.

lost(Lease, {error, Reason} = Error) ->
    _ = sockpool_nif:discard(Lease, sockpool_reason:why(Reason)),
    Error.
