"""Own texts for the golden windows: prose, talk, code, lists, numbers and a few languages.

Not for tests of taste: they only have to look like what people send to a model. Every short text
has at least 64 tokens in both tokenizers; ``LONG`` has more than 640.
"""

SHORT: list[str] = [
    """The harbour was quiet when the ferry came in. Two boys sat on the wall and counted the
passengers, as they did every evening, and the old customs officer leaned in his doorway with a cup
of tea. Nobody had smuggled anything for thirty years, but he still looked into every basket, mostly
to see what was for supper.""",
    """A queue is stable when work arrives more slowly than it can be served. Near the limit the
waiting time grows without bound: at ninety per cent utilisation a request waits about nine service
times, at ninety-nine per cent about ninety-nine. This is why a server that is never allowed to
idle is a slow server, however fast its processor may be.""",
    """def merge(left, right):
    \"\"\"Merge two sorted lists into one sorted list.\"\"\"
    result = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]
""",
    """Question: A train leaves at 9:15 and arrives at 11:40. It stops for 5 minutes in each of
three stations. How long is it moving?
Answer: From 9:15 to 11:40 are 2 hours and 25 minutes, which is 145 minutes. The stops take
3 * 5 = 15 minutes. So the train is moving for 145 - 15 = 130 minutes: 2 hours and 10 minutes.""",
    """Ingredients for four people:
- 400 g of flour
- 2 eggs and 1 extra yolk
- 1 teaspoon of salt
- 250 ml of warm water
- 3 tablespoons of oil
Method:
1. Put the flour in a bowl and make a hollow in the middle.
2. Add the eggs, the salt and the oil, and stir with a fork.
3. Pour in the water slowly. Knead for ten minutes, then let the dough rest under a cloth.""",
    """{
  "name": "north-tower",
  "kind": "sensor",
  "enabled": true,
  "location": {"lat": 47.3769, "lon": 8.5417, "height_m": 412.5},
  "readings": [
    {"time": "2024-03-01T00:00:00Z", "temperature": 3.1, "humidity": 0.82},
    {"time": "2024-03-01T01:00:00Z", "temperature": 2.8, "humidity": 0.85}
  ]
}
""",
    """Dear Mrs Okafor, thank you for your letter of the 3rd of May. I am sorry that the chair
arrived with a broken leg. We have sent a new one today; it should be with you by Friday. Please
keep the old chair, or give it to someone who likes to repair things. With kind regards, and with
apologies for the trouble, the workshop.""",
    """Water is made of hydrogen and oxygen. When it freezes, its molecules settle in a lattice that
takes more room than the liquid, so ice floats. Most substances do the opposite. If ice sank, lakes
would freeze from the bottom up, and the fish that now spend the winter in the deep water at four
degrees would have nowhere to go.""",
    """Die Bibliothek liegt am Ende der Straße, hinter den alten Kastanien. Sie öffnet um acht Uhr,
und wer früh kommt, hat den großen Lesesaal für sich allein. Im Winter riecht es dort nach
Bohnerwachs und nassen Mänteln. Die Bibliothekarin kennt jedes Buch, aber sie verrät nie, welches
sie selbst am liebsten liest.""",
    """Le marché commence avant le lever du soleil. Les marchands déchargent leurs camions, allument
les lampes et boivent un café très fort. À sept heures, les premières clientes arrivent avec leurs
paniers ; elles savent exactement ce qu'elles veulent et combien elles sont prêtes à payer pour
l'avoir.""",
    """SELECT c.name, COUNT(*) AS orders, SUM(o.total) AS spent
FROM customers AS c
JOIN orders AS o ON o.customer_id = c.id
WHERE o.placed_at >= '2023-01-01' AND o.status <> 'cancelled'
GROUP BY c.name
HAVING SUM(o.total) > 1000
ORDER BY spent DESC
LIMIT 20;
""",
    """- Have you seen my keys?
- Where did you leave them?
- If I knew that, I would not ask you.
- They are usually in your coat.
- I looked in my coat. I looked in both coats, in fact.
- And in the door?
- In the door? Why would they be in the ... oh. Thank you.
- You are welcome. They have been there since yesterday evening.
""",
    """# Setting up the project

You need a compiler and Python 3.11 or newer. Clone the repository, then type `make demo`. The first
run takes a few minutes because it builds the native code and fetches a small model; every later run
starts at once. If something goes wrong, `make check` tells you what is missing and how to get it.
""",
    """The sum of the first n odd numbers is a perfect square: 1 = 1, 1 + 3 = 4, 1 + 3 + 5 = 9,
1 + 3 + 5 + 7 = 16. To see why, draw the squares of size 1, 2, 3 and so on inside each other. Going
from n to n + 1 adds a border of 2n + 1 cells, and that is the next odd number. By induction the sum
is n * n for every n.""",
    """el tren de la tarde llegaba siempre con retraso, y por eso nadie corría. Mi abuela preparaba
bocadillos para el viaje, los envolvía en papel y escribía el nombre de cada uno con un lápiz rojo.
Cuando por fin se oía el silbato, ya no quedaba ninguno: los habíamos comido todos en el andén.""",
    """2024-05-06 07:59:58.113 INFO  server: listening on 127.0.0.1:8000
2024-05-06 08:00:02.480 INFO  request id=41 prompt=512 max_tokens=64 stream=true
2024-05-06 08:00:02.731 INFO  first token id=41 after 251 ms
2024-05-06 08:00:03.902 WARN  queue length 17 is above the limit 16, rejecting id=58
2024-05-06 08:00:04.015 INFO  finished id=41 reason=stop tokens=57
""",
]

LONG = """\
The clock in the station hall had stopped at twenty past four, and nobody in the town
could agree on the year. The stationmaster said it was the winter of the great snow, when
no train came for nine days and the passengers of the last one had to be fed by the nuns.
The baker said it was much later, in the spring when the river took the bridge, because he
remembered running past the clock with a sack of flour on each shoulder and thinking that
he was late. The schoolteacher, who liked to have things exact, had written to the railway
company and received a form in reply.

Elena had come to repair it. She was nineteen and it was the first work that she had been
given to do alone. Her master had looked at the letter, then at the map, then at her, and
had said that a clock that nobody had touched for so long could hardly be made worse. She
carried her tools in a flat leather case, and in her pocket a magnifying glass that had
belonged to her grandmother, who had repaired watches through a war in a cellar by the
light of a bicycle lamp.

The first thing she did was to sit down on the bench opposite and look at it for an hour.
The stationmaster thought that she was waiting for someone. Then she asked for a ladder,
and for a second person to hold it, and since there was no train before noon the
stationmaster held it himself. She opened the glass, wiped the dust from the hands with a
brush, and put her ear against the dial as a doctor does with a chest. "It is not broken,"
she said. "It has been stopped."

Behind the dial, between the great wheel and the frame, somebody had pushed a folded piece
of paper. It was brown at the edges and had taken the shape of the teeth that had pressed
on it for all those years. She drew it out with a pair of tweezers, very slowly, a little
to the left and a little to the right, and when it was free the wheel gave a small sigh
and moved by one tooth. The stationmaster let go of the ladder. He picked the paper up,
unfolded it on the counter under the lamp, and read it twice with his finger under the
line.

"Wait for me," it said. "I shall take the train at twenty past four." There was no name.
By evening the whole town had been to see it. The baker thought that he knew the
handwriting, and then that he did not. The schoolteacher noted that the word shall was
used correctly. One old woman came in last, when the lamps had been lit and the others had
gone home to supper; she read it without her glasses, folded it along its old lines, and
asked Elena whether it would be possible to put it back.

Elena thought about this for some time. She thought about her master, who would ask what
had been wrong with the clock, and about the company, which would want a form. Then she
climbed the ladder, this time with nobody to hold it, and set the hands to the right time,
and wound the spring, and closed the glass. The paper she gave to the old woman. "It has
waited long enough," she said. "And you can keep the time yourself now." The next train,
as it happened, was on time.
"""

# Prompts of the greedy continuations: (is it a chat message, text).
GREEDY: list[tuple[bool, str]] = [
    (True, "What is the capital of France, and what is it known for?"),
    (True, "Write a Python function that returns the n-th Fibonacci number."),
    (True, "Explain in two sentences why the sky is blue."),
    (True, "List three things that I should pack for a walk in the mountains."),
    (False, "Once upon a time, in a village at the edge of a forest, there lived"),
    (False, "The three laws of thermodynamics are:\n1."),
    (False, "def is_prime(n):\n"),
    (False, "In 1969, the first human beings landed on the Moon. The mission was called"),
]
