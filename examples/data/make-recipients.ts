/**
 * Writes recipients.csv: 10,000 made-up people with names as they come, accents, apostrophes, commas, quotes and all. Always
 * the same ones. Every address is at example.com, example.org or example.net, which belong to nobody. A few begin with
 * `bounce`: the example's mail server does not know them.
 *
 *     npx tsx examples/data/make-recipients.ts
 */

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const COUNT = 10_000;
/** Every so many-th address does not exist. */
const BOUNCE_EVERY = 400;

interface Locale {
  readonly language: string;
  readonly first: string;
  readonly last: string;
  readonly cities: string;
}

/** Names separated by `|`, because some hold blanks and commas. */
const LOCALES: readonly Locale[] = [
  {
    language: 'en',
    first:
      'Olivia|Liam|Emma|Noah|Ava|Oliver|Sophia|Elijah|Isabella|James|Mia|Benjamin|Charlotte|Lucas|Amelia|Henry|Harper|Theodore|Evelyn|Jack|William "Bill"|Mary-Kate|D\'Andre|Siobhán|Robert, Jr.',
    last: "Smith|Johnson|O'Neil|Brown|O'Connor|Miller|Davis|Wilson|Anderson|Taylor|Thomas|Jackson|White|Harris|Martin|Thompson|D'Souza|McDonald|Robinson|Clark|Lewis|Walker|Hall|Smith-Jones|van Buren",
    cities: "London|Washington, D.C.|Dublin|Toronto|Sydney|St. John's|Austin",
  },
  {
    language: 'de',
    first:
      'Jürgen|Anna|Björn|Käthe|Lukas|Sophie|Jörg|Heike|Günther|Ursula|Maximilian|Zoë|Uwe|Annegret|Sören|Ingrid|Matthias|Bärbel|Stefan|Renate|Karl-Heinz|Anke|Götz|Liesl|Thomas',
    last: 'Müller|Schmidt|Schäfer|Fischer|Weiß|Meyer|Wagner|Becker|Schulz|Hoffmann|Köhler|Richter|Klein|Wolf|Schröder|Neumann|Groß|Krüger|Hofmann|Jäger|von der Heide|Böhm|Lang|Zöllner|Strauß',
    cities: 'Berlin|Köln|München|Zürich|Wien|Düsseldorf|Graz',
  },
  {
    language: 'fr',
    first:
      'Chloé|Léa|Gaël|Théo|Éloïse|François|Zoé|Jérôme|Hélène|René|Aurélie|Noël|Océane|Benoît|Inès|Loïc|Margaux|Maël|Célia|Hugo|Anaïs|Rémi|Françoise|Jean-Luc|Maëlys',
    last: "Martin|Lefèvre|D'Arc|Bernard|Dubois|Hébert|Moreau|Laurent|Gérard|L'Hôpital|Roux|Fournier|Mercier|Béranger|Faure|Garçon|Noël|Perrin|Côté|Gauthier|Chevalier|Muñoz|Lemaître|de La Tour|Brûlé",
    cities: 'Paris|Lyon|Genève|Saint-Étienne|Québec|Liège|Nîmes',
  },
  {
    language: 'es',
    first:
      'María José|Íñigo|Sofía|Martín|Begoña|José|Lucía|Ángel|Inés|Jesús|Ana|Raúl|Noemí|Óscar|Rocío|Víctor|Concepción|Andrés|Belén|Joaquín|Xóchitl|Sebastián|Camila|Núria|Álvaro',
    last: 'García|Núñez|Peña|López|Ibáñez|Martínez|Pérez|Gómez|Jiménez|Ruiz|Hernández|Díaz|Muñoz|Álvarez|Romero|Gutiérrez|Torres|Domínguez|Vázquez|Ramos|Castaño|Ortega y Gasset|Delgado|Ordóñez|Iñárritu',
    cities: 'Madrid|Bogotá|A Coruña|México, D. F.|Córdoba|Málaga|Santiago',
  },
  {
    language: 'pl',
    first:
      'Agnieszka|Łukasz|Małgorzata|Paweł|Zofia|Michał|Żaneta|Grzegorz|Katarzyna|Bartłomiej|Świętosława|Wojciech|Jadwiga|Stanisław|Elżbieta|Kuba|Bożena|Sławomir|Hanna|Jędrzej|Kinga|Tomasz|Wiesława|Rafał|Ola',
    last: 'Nowak|Wiśniewski|Wójcik|Kowalczyk|Kamiński|Lewandowska|Zieliński|Szymańska|Woźniak|Dąbrowski|Kozłowska|Jabłoński|Mazur|Krawczyk|Piotrowska|Grabowski|Zając|Pawłowska|Król|Wróbel|Stępień|Górska|Jaworski|Błaszczyk|Żak',
    cities: 'Łódź|Kraków|Gdańsk|Warszawa|Poznań|Wrocław|Rzeszów',
  },
  {
    language: 'tr',
    first:
      'Ayşe|Çağlar|Gülşen|İbrahim|Şule|Özgür|Elif|Uğur|Yiğit|Zeynep|Oğuz|Işıl|Mehmet|Nurgül|Tuğba|Emre|Sıla|Koray|Büşra|Ümit|Defne|Barış|Ceyda|Hakan|Ilgaz',
    last: 'Yılmaz|Öztürk|Çelik|Şahin|Kaya|Demir|Yıldız|Aydın|Özdemir|Arslan|Doğan|Kılıç|Aslan|Çetin|Kara|Koç|Kurt|Özkan|Şimşek|Polat|Ünal|Güneş|Işık|Bulut|Taş',
    cities: 'İstanbul|İzmir|Diyarbakır|Eskişehir|Muğla|Şanlıurfa|Ankara',
  },
  {
    language: 'uk',
    first:
      'Олена|Андрій|Соломія|Тарас|Оксана|Мар’яна|Богдан|Ірина|Юрій|Наталія|Василь|Катерина|Олексій|Ганна|Роман|Зоряна|Ігор|Марія|Сергій|Леся|Євген|Дарина|Михайло|Їванка|Степан',
    last: 'Шевченко|Коваленко|Бондаренко|Ткачук|Кравченко|Мельник|Поліщук|Савчук|Лисенко|Марченко|Гончар|Петренко|Дем’яненко|Руденко|Іваненко|Мороз|Козак|Сидоренко|Гриценко|Білий|Франко|Косач|Щербак|Юхименко|Яремчук',
    cities: 'Київ|Львів|Харків|Одеса|Чернівці|Ужгород|Кам’янець-Подільський',
  },
  {
    language: 'ja',
    first:
      '陽菜|蓮|さくら|大翔|結衣|悠真|美咲|湊|葵|樹|凛|颯太|ひなた|健|愛子|太郎|花子|翼|直美|誠|ゆかり|修|恵|拓也|あおい',
    last: '佐藤|鈴木|高橋|田中|伊藤|渡辺|山本|中村|小林|加藤|吉田|山田|佐々木|山口|松本|井上|木村|林|斎藤|清水|山崎|森|池田|橋本|阿部',
    cities: '東京|大阪|札幌|京都|福岡|名古屋|那覇',
  },
  {
    language: 'ar',
    first:
      'محمد|فاطمة|أحمد|عائشة|علي|مريم|يوسف|زينب|عمر|ليلى|خالد|نور|حسن|سارة|إبراهيم|هدى|طارق|رانيا|كريم|سلمى|سامي|دينا|ماجد|ياسمين|عبد الله',
    last: 'العلي|حداد|الخطيب|منصور|النجار|خوري|السيد|حمدان|الشامي|قاسم|درويش|الأحمد|صالح|عثمان|فارس|المصري|ناصر|بشارة|الحسن|زيدان|رزق|شاهين|عطية|يعقوب|بن سعيد',
    cities: 'القاهرة|بيروت|الدار البيضاء|عمّان|دبي|تونس|بغداد',
  },
  {
    language: 'hi',
    first:
      'आरव|Priya|अनन्या|Rahul|दीया|Vikram|Lakshmi|Arjun|मीरा|Sanjay|Nithya|रोहन|Kavya|Aditya|Ishaan|सुनीता|Deepak|Pooja|Harish|नेहा|Karthik|Asha|Manoj|Rekha|विजय',
    last: "Sharma|Patel|सिंह|Iyer|Gupta|Reddy|कुमार|Nair|Mehta|Chatterjee|Joshi|Rao|D'Mello|Das|Banerjee|वर्मा|Menon|Kapoor|Fernandes|Pillai|Bose|मिश्रा|Chopra|Desai|Kulkarni",
    cities: 'मुंबई|New Delhi|Bengaluru|चेन्नई|Kolkata|Kochi|Pune',
  },
];

/** Names that break programs. */
const SPECIAL: ReadonlyArray<readonly [first: string, last: string, city: string]> = [
  ['Zoë 🌻', "O'Brien", 'Cork'],
  ['Bobby', "Tables'); DROP TABLE students;--", 'Online'],
  ['<b>Bold</b>', 'Ampersand & Sons', 'HTML <city>'],
  ['{{ first_name }}', '{% raw %}', 'Template'],
  ['Ann "The Comma", Jr.', 'Quote""Quote', 'Here, there'],
  ['null', 'undefined', 'NaN'],
  ['ﷺ', 'Zero\u200bWidth', 'Ｆｕｌｌｗｉｄｔｈ'],
  ['Nguyễn', 'Thị Minh Khai', 'Thành phố Hồ Chí Minh'],
];

/** mulberry32: small, and the same on every machine. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const random = generator(20_260_101);
const pick = (list: string): string => {
  const values = list.split('|');
  return values[Math.floor(random() * values.length)] as string;
};

/** Latin letters of a name, without their marks. */
function slug(name: string): string {
  return name
    .normalize('NFD')
    .replace(/[^A-Za-z]/g, '')
    .toLowerCase();
}

function field(value: string): string {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

const rows = [['id', 'email', 'first_name', 'last_name', 'city', 'language'].join(',')];
for (let number = 1; number <= COUNT; number += 1) {
  const locale = LOCALES[Math.floor(random() * LOCALES.length)] as Locale;
  const special = number % 1_250 === 7 ? SPECIAL[Math.floor(number / 1_250)] : undefined;
  const [first, last, city] = special ?? [pick(locale.first), pick(locale.last), pick(locale.cities)];
  const domain = `example.${pick('com|org|net')}`;
  const name = [slug(first), slug(last)].filter((part) => part !== '').join('.') || 'subscriber';
  const local = number % BOUNCE_EVERY === 0 ? 'bounce' : name;
  rows.push(
    [
      `r${String(number).padStart(5, '0')}`,
      `${local}.${number}@${domain}`,
      first,
      last,
      city,
      locale.language,
    ]
      .map(field)
      .join(','),
  );
}
writeFileSync(fileURLToPath(new URL('./recipients.csv', import.meta.url)), `${rows.join('\n')}\n`);
