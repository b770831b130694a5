%%% @private
%%% One call, or one message, over a lease of a connection to a node, and the lease goes back. The caller
%%% has it and does all of this itself; sockpool_node_conn is for connections that stay checked out.
-module(sockpool_node_call).

-export([call/5, send_to/4, message/4]).

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
        case message(Identity, Node, To, Message) of
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
        {ok, Frame} -> heard(sockpool_dist:parse(Frame), Frame, Lease, Identity, Deadline);
        {error, _} = Error -> lost(Lease, Error)
    end.

heard({ended, 1}, Frame, Lease, _Identity, _Deadline) ->
    done(Lease, sockpool_dist:result(1, Frame));
heard({refused, 1, Reason}, _Frame, Lease, _Identity, _Deadline) ->
    done(Lease, {error, {spawn, Reason}});
heard(tick, _Frame, Lease, Identity, Deadline) ->
    answered([], Lease, Identity, Deadline);
heard({message, To, Payload}, _Frame, Lease, Identity, Deadline) ->
    case sockpool_dist:io_request(Identity, To, Payload) of
        {_From, _ReplyAs, _Request} = Io -> sockpool_node_conn:finish(Lease, Identity, Io, Deadline);
        other -> await_result(Lease, Identity, Deadline)
    end;
heard(other, Frame, Lease, Identity, Deadline) ->
    case sockpool_dist:answer(Identity, Frame) of
        undefined -> await_result(Lease, Identity, Deadline);
        Answer -> answered(Answer, Lease, Identity, Deadline)
    end;
heard(_OfSomebodyElse, _Frame, Lease, Identity, Deadline) ->
    await_result(Lease, Identity, Deadline).

answered(Frame, Lease, Identity, Deadline) ->
    case transmit(Lease, Frame, Deadline) of
        ok -> await_result(Lease, Identity, Deadline);
        {error, _} = Error -> lost(Lease, Error)
    end.

done(Lease, Result) ->
    _ = sockpool_nif:checkin(Lease),
    Result.

lost(Lease, Error) ->
    _ = sockpool_nif:discard(Lease),
    Error.

%% @doc The frame for a message to a registered name, or a pid, of the node.
-spec message(sockpool_dist:identity(), node(), term(), term()) ->
          {ok, iodata()} | {error, {bad_argument, destination, term()}}.
message(Identity, Node, {Name, Node}, Message) when is_atom(Name) ->
    {ok, sockpool_dist:send(Identity, Name, Message)};
message(Identity, _Node, Name, Message) when is_atom(Name) ->
    {ok, sockpool_dist:send(Identity, Name, Message)};
message(Identity, Node, Pid, Message) when is_pid(Pid), node(Pid) =:= Node ->
    {ok, sockpool_dist:send(Identity, Pid, Message)};
message(_Identity, _Node, To, _Message) ->
    {error, {bad_argument, destination, To}}.
