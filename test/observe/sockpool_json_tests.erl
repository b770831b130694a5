-module(sockpool_json_tests).
-include_lib("eunit/include/eunit.hrl").

encoded(Term) -> unicode:characters_to_list(iolist_to_binary(sockpool_json:encode(Term))).

values_test() ->
    ?assertEqual("null", encoded(undefined)),
    ?assertEqual("null", encoded(null)),
    ?assertEqual("true", encoded(true)),
    ?assertEqual("-12", encoded(-12)),
    ?assertEqual("0.5", encoded(0.5)),
    ?assertEqual("\"idle\"", encoded(idle)),
    ?assertEqual("[1,[],{}]", encoded({list, [1, {list, []}, #{}]})),
    ?assertEqual("{\"a\":\"x\"}", encoded(#{a => <<"x">>})),
    ?assertEqual("{\"a\\\"b\":1}", encoded(#{<<"a\"b">> => 1})),
    ?assertEqual("\"a string\"", encoded("a string")),
    ?assertEqual("\"\"", encoded([])).

%% Neither a quote of JSON nor a tag of HTML comes out as itself, nor what turns the direction of a text.
hostile_test() ->
    ?assertEqual("\"\\u003c/script\\u003e\\u0026\\u0027\\\"\\\\\"", encoded(<<"</script>&'\"\\">>)),
    ?assertEqual("\"\\u0000\\n\\u001f\\u007f\\u2028\\u202e\"", encoded(<<0, 10, 31, 127, 16#2028/utf8, 16#202e/utf8>>)),
    ?assertEqual([$", 228, 8364, $"], encoded([228, 8364])),
    ?assertEqual([$", 228, $"], encoded(<<228>>)),
    ?assertEqual([$", 255, 254, $"], encoded(<<255, 254>>)).

%% Whatever the bytes, the result is UTF-8 without anything that a parser refuses.
any_bytes_test() ->
    [begin
         <<$", Inner/binary>> = iolist_to_binary(sockpool_json:encode({text, rand:bytes(20)})),
         [?assert(Char >= 32 andalso Char =/= $<) || Char <- unicode:characters_to_list(Inner)]
     end || _ <- lists:seq(1, 500)].
